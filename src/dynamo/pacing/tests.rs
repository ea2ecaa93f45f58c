//! Pacing in a time that only the test moves.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SLOW: Foreground = Foreground {
    reads: None,
    writes: Some(SECOND),
};

fn quick() -> Foreground {
    Foreground {
        reads: Some(Duration::from_millis(1)),
        writes: Some(Duration::from_millis(5)),
    }
}

/// Bytes let through in a time, of units of a size that always wait.
fn through(
    pacing: &mut Pacing<Kind>,
    kinds: &[Kind],
    bytes: u64,
    from: Duration,
    time: Duration,
) -> u64 {
    let before: u64 = kinds.iter().map(|kind| pacing.status(*kind).done).sum();
    for tick in 0..time.as_millis() / 100 {
        let now = from + Duration::from_millis(100) * u32::try_from(tick).unwrap();
        loop {
            for kind in kinds
                .iter()
                .filter(|kind| pacing.status(**kind).waiting == 0)
                .copied()
                .collect::<Vec<_>>()
            {
                pacing.ask(now, kind, bytes, kind);
            }
            if pacing.grant(now, |_| false).is_empty() {
                break;
            }
        }
    }
    kinds
        .iter()
        .map(|kind| pacing.status(*kind).done)
        .sum::<u64>()
        - before
}

#[test]
fn work_goes_at_the_rate_whatever_the_size_of_its_units() {
    for bytes in [512, 10_000, 300_000, 1 << 20] {
        let mut pacing = Pacing::default();
        for (kind, rate) in [(Kind::Transfers, FIRST), (Kind::Repair, FIRST_TO_MEND)] {
            let done = through(&mut pacing, &[kind], bytes, SECOND, SECOND * 10);
            let expected = rate * 10..=rate * 11 + bytes;
            assert!(expected.contains(&done), "{kind:?}, {bytes}: {done}");
        }
    }
}

#[test]
fn what_a_unit_cost_beyond_its_asking_is_paid_by_those_after_it() {
    let mut pacing = Pacing::default();
    let unit = |pacing: &mut Pacing<Kind>, now| {
        pacing.ask(now, Kind::Transfers, 0, Kind::Transfers);
        !pacing.grant(now, |_| false).is_empty()
    };
    assert!(
        (0..100).all(|_| unit(&mut pacing, SECOND)),
        "next to nothing"
    );
    pacing.charge(SECOND, Kind::Transfers, FIRST * 3);
    assert!(!unit(&mut pacing, SECOND * 3), "three seconds' worth");
    assert!(unit(&mut pacing, SECOND * 4), "paid");
    assert!(pacing.status(Kind::Transfers).done >= FIRST * 3);
    pacing.limit(Kind::Transfers, NonZeroU64::new(FIRST / 10));
    pacing.charge(SECOND * 9, Kind::Transfers, FIRST);
    assert!(!unit(&mut pacing, SECOND * 18), "the limit holds as well");
    assert!(unit(&mut pacing, SECOND * 20));
}

#[test]
fn kinds_of_one_rate_that_wait_share_it_and_leave_the_other_alone() {
    let mut pacing = Pacing::default();
    through(&mut pacing, &Kind::ALL, 10_000, SECOND, SECOND * 10);
    for mends in [true, false] {
        let kinds = || Kind::ALL.into_iter().filter(|kind| kind.mends() == mends);
        let share = |kind| pacing.status(kind).done;
        let rate = if mends { FIRST_TO_MEND } else { FIRST };
        let whole: u64 = kinds().map(share).sum();
        assert!((rate * 10..rate * 11).contains(&whole), "{whole}");
        let even = whole / kinds().count() as u64;
        assert!(kinds().all(|kind| share(kind).abs_diff(even) < even / 5));
    }
}

#[test]
fn a_limit_holds_for_its_kind_and_until_it_is_taken_away() {
    let mut pacing = Pacing::default();
    let limit = NonZeroU64::new(100_000);
    pacing.limit(Kind::Hints, limit);
    assert_eq!(
        (
            pacing.status(Kind::Hints).rate,
            pacing.status(Kind::Hints).limit
        ),
        (100_000, limit)
    );
    let done = through(&mut pacing, &[Kind::Hints], 1000, SECOND, SECOND * 10);
    assert!((1_000_000..1_100_000).contains(&done), "{done}");
    let other = through(&mut pacing, &[Kind::Repair], 1000, SECOND * 11, SECOND);
    assert!(other >= FIRST_TO_MEND, "{other}");
    pacing.limit(Kind::Hints, None);
    let free = through(&mut pacing, &[Kind::Hints], 1000, SECOND * 12, SECOND);
    assert!(free > FIRST_TO_MEND / 2, "{free}");
}

/// Looks at the clients after work had to wait for the rate, or with none.
fn heed(pacing: &mut Pacing<Kind>, now: Duration, clients: Foreground, used: bool) -> u64 {
    if used {
        for kind in [Kind::Transfers; 3] {
            pacing.ask(now, kind, FASTEST * 4, kind);
        }
        pacing.grant(now, |_| false);
        pacing.grant(now, |_| true);
    }
    pacing.heed(clients);
    pacing.status(Kind::Transfers).rate
}

#[test]
fn a_rate_that_is_used_falls_while_clients_suffer_and_rises_when_they_do_not() {
    let pacing = &mut Pacing::default();
    assert_eq!(heed(pacing, SECOND, quick(), true), FIRST + RISE);
    assert_eq!(heed(pacing, SECOND, SLOW, true) * 2, FIRST + RISE);
    for _ in 0..20 {
        heed(pacing, SECOND, SLOW, true);
    }
    let slow = heed(pacing, SECOND, SLOW, true);
    assert_eq!(slow, SLOWEST, "never to nothing");
    let alone = heed(pacing, SECOND, Foreground::default(), true);
    assert_eq!(alone, SLOWEST * 2, "there are no clients to spare");
    for _ in 0..FASTEST / RISE {
        heed(pacing, SECOND, quick(), true);
    }
    assert_eq!(heed(pacing, SECOND, quick(), true), FASTEST);
}

#[test]
fn a_rate_that_is_used_in_part_falls_to_twice_that_part() {
    let pacing = &mut Pacing::default();
    for _ in 0..FASTEST / RISE {
        heed(pacing, SECOND, quick(), true);
    }
    for (per_look, expected) in [(FASTEST, FASTEST), (FIRST, FIRST * 4), (FIRST / 8, FIRST)] {
        pacing.charge(SECOND, Kind::Transfers, per_look);
        assert_eq!(heed(pacing, SECOND, quick(), false), expected);
    }
}

#[test]
fn a_rate_that_nobody_uses_goes_back_to_the_first() {
    let pacing = &mut Pacing::default();
    assert_eq!(heed(pacing, SECOND, quick(), false), FIRST);
    for _ in 0..9 {
        heed(pacing, SECOND, quick(), true);
    }
    assert_eq!(heed(pacing, SECOND, quick(), false), FIRST);
    heed(pacing, SECOND, SLOW, false);
    assert_eq!(heed(pacing, SECOND, SLOW, false), SLOWEST);
    assert_eq!(heed(pacing, SECOND, quick(), false), SLOWEST + RISE);
    assert_eq!(
        pacing.status(Kind::Hints).rate,
        FIRST_TO_MEND / 4 + RISE,
        "which has further to go"
    );
    assert_eq!(heed(pacing, SECOND, quick(), false), FIRST);
}

#[test]
fn no_kind_pauses_for_longer_than_a_minute() {
    let mut pacing = Pacing::default();
    pacing.limit(Kind::Reaping, NonZeroU64::new(1));
    let (minutes, unit) = (10, 1 << 20);
    let done = through(
        &mut pacing,
        &[Kind::Reaping],
        unit,
        SECOND,
        SECOND * 60 * minutes,
    );
    let units = u32::try_from(done / unit).unwrap();
    assert!((minutes..=2 * minutes + 1).contains(&units), "{units}");
}

#[test]
fn those_who_wait_no_longer_cost_nothing() {
    let mut pacing = Pacing::default();
    for who in 0..3 {
        pacing.ask(SECOND, Kind::Transfers, FIRST, who);
    }
    assert_eq!(pacing.grant(SECOND, |who| *who == 0), [1]);
    assert_eq!(pacing.status(Kind::Transfers).done, FIRST);
    assert_eq!(pacing.status(Kind::Transfers).waiting, 1);
}

#[test]
fn names_lead_back_to_their_kinds() {
    for kind in Kind::ALL {
        assert_eq!(Kind::named(kind.as_str()), Some(kind));
    }
    assert_eq!(Kind::named("moves"), None);
}
