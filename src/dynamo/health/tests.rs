//! Nodes that do what a table says, in a time that passes as the test wants.

use super::*;
use Condition::{Preferred, Slow, Unreachable};

const MILLI: Duration = Duration::from_millis(1);

/// What happens to a node at a moment.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A call is made.
    Sent(Call),
    /// A call of these milliseconds is answered.
    Answered(Call, u32),
    /// No connection.
    Failed,
    /// The call's deadline passes.
    GivenUp(Call),
    /// This node had been standing still.
    Excused,
    /// Time passes.
    Nothing,
}

use Call::{Durable, Light};
use Event::{Answered, Excused, Failed, GivenUp, Nothing, Sent};

fn happen(node: &mut Detector, now: Duration, event: Event) {
    match event {
        Sent(call) => node.sent(call, now),
        Answered(call, took) => {
            node.answered(call, now, MILLI * took);
            node.ended(call, now);
        }
        Failed => node.failed(now),
        GivenUp(call) => node.ended(call, now),
        Excused => node.excuse(now),
        Nothing => {}
    }
    node.judge(now);
}

/// A moment in ms, what happens, and the condition from then on.
type Step = (u32, Event, Condition);

const STORIES: &[(&str, &[Step])] = &[
    (
        "a silent node is slow, then dead, and back after a calm",
        &[
            (0, Sent(Light), Preferred),
            (299, Nothing, Preferred),
            (300, Nothing, Slow),
            (799, Nothing, Slow),
            (800, GivenUp(Light), Unreachable),
            (5000, Nothing, Unreachable),
            (5100, Sent(Light), Unreachable),
            (5101, Answered(Light, 1), Slow),
            (7099, Nothing, Slow),
            (7100, Nothing, Preferred),
        ],
    ),
    (
        "a refused connection is enough",
        &[
            (0, Failed, Unreachable),
            (900, Answered(Light, 1), Slow),
            (2000, Nothing, Preferred),
        ],
    ),
    (
        "an answer of any kind ends the silence",
        &[
            (0, Sent(Light), Preferred),
            (10, Sent(Durable), Preferred),
            (290, Answered(Durable, 280), Preferred),
            (580, Nothing, Preferred),
            (590, Nothing, Slow),
        ],
    ),
    (
        "a slow sync is no silence for a second",
        &[
            (0, Sent(Durable), Preferred),
            (999, Nothing, Preferred),
            (1000, Nothing, Slow),
            (9000, Nothing, Slow),
        ],
    ),
    (
        "a call given up early says nothing",
        &[
            (0, Sent(Light), Preferred),
            (50, GivenUp(Light), Preferred),
            (9000, Nothing, Preferred),
        ],
    ),
    (
        "who stood still itself blames nobody",
        &[
            (0, Sent(Light), Preferred),
            (60_000, Excused, Preferred),
            (60_299, Nothing, Preferred),
            (60_300, Nothing, Slow),
        ],
    ),
    (
        "what was slow before the calls ended is forgotten",
        &[
            (0, Answered(Light, 1), Preferred),
            (10, Answered(Durable, 1), Preferred),
            (20, Answered(Durable, 4000), Slow),
            (1000, Answered(Light, 1), Slow),
            (3000, Answered(Light, 1), Slow),
            (3100, Nothing, Slow),
            (5020, Nothing, Preferred),
        ],
    ),
    (
        "trouble that comes back asks for a longer calm",
        &[
            (0, Failed, Unreachable),
            (10, Answered(Light, 1), Slow),
            (2000, Nothing, Preferred),
            (3000, Failed, Unreachable),
            (3010, Answered(Light, 1), Slow),
            (6999, Nothing, Slow),
            (7000, Nothing, Preferred),
            (80_000, Failed, Unreachable),
            (80_010, Answered(Light, 1), Slow),
            (82_000, Nothing, Preferred),
        ],
    ),
];

#[test]
fn a_node_is_judged_by_its_answers_and_its_silence() {
    for (story, steps) in STORIES {
        let mut node = Detector::default();
        for (at, event, expected) in *steps {
            happen(&mut node, MILLI * *at, *event);
            assert_eq!(node.condition(), *expected, "{story}: at {at} ms {event:?}");
        }
    }
}

/// Each row: the usual time of a node's three fellows and its own in the old days, then its own
/// time now, in ms; how it ends, by its fellows and without any.
#[test]
fn a_node_far_behind_its_fellows_or_its_past_is_slow() {
    let rows = [
        ([1, 1, 1], 1, 1, Preferred, Preferred),
        ([1, 1, 1], 1, 90, Preferred, Preferred),
        ([1, 1, 1], 1, 500, Slow, Slow),
        ([1, 1, 900], 1, 500, Slow, Slow),
        ([200, 200, 200], 1, 500, Preferred, Slow),
        ([1, 1, 1], 400, 400, Slow, Preferred),
    ];
    for (fellows, before, after, by_fellows, alone) in rows {
        for (company, expected) in [(&fellows[..], by_fellows), (&[], alone)] {
            let mut nodes: Vec<Detector> = company
                .iter()
                .chain(&[before])
                .map(|took| {
                    let mut node = Detector::default();
                    (0..50).for_each(|_| node.answered(Light, MILLI, MILLI * *took));
                    node
                })
                .collect();
            review(&mut nodes.iter_mut().collect::<Vec<_>>(), MILLI);
            let last = nodes.last_mut().unwrap();
            (0..8).for_each(|_| last.answered(Light, MILLI, MILLI * after));
            review(&mut nodes.iter_mut().collect::<Vec<_>>(), MILLI);
            let is = nodes.last().unwrap().condition();
            assert_eq!(is, expected, "{company:?}, {before} then {after}");
        }
    }
}

/// A node whose pace swings around the bound is not taken in and out with every answer.
#[test]
fn a_node_at_the_bound_of_slowness_does_not_flap() {
    let (mut node, mut fellow) = (Detector::default(), Detector::default());
    let (mut changes, mut before) = (0, Preferred);
    for second in 0..600 {
        let now = Duration::from_secs(second);
        let took = if second % 3 == 0 { 130 } else { 80 };
        node.answered(Light, now, MILLI * took);
        fellow.answered(Light, now, MILLI);
        review(&mut [&mut node, &mut fellow], now);
        changes += u32::from(node.condition() != before);
        before = node.condition();
    }
    assert!(changes <= 1, "{changes} changes in ten minutes");
    assert_eq!(fellow.condition(), Preferred);
}

/// Brief dropouts again and again: the longer it goes on, the rarer the changes.
#[test]
fn a_node_that_drops_out_again_and_again_changes_ever_less_often() {
    let mut node = Detector::default();
    let (mut changes, mut before) = (0, Preferred);
    for tenth in 0..6000 {
        let now = MILLI * 100 * tenth;
        if tenth % 50 == 0 {
            node.failed(now);
        } else {
            node.answered(Light, now, MILLI);
        }
        let preferred = node.condition() == Preferred;
        changes += u32::from(preferred != (before == Preferred));
        before = node.condition();
    }
    assert!(changes <= 6, "{changes} changes in ten minutes");
}
