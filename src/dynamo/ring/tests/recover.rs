//! A member that comes back without its disk.

use super::*;

#[test]
fn a_member_with_a_lost_disk_keeps_its_place() {
    let members: Vec<Member> = (0..4).map(|i| member(i, 0, 1)).collect();
    let ring = found(3, members.clone());
    let mut lost = members[1].clone();
    lost.data_id += 1000;
    lost.zone = "another".into();
    lost.addresses.peer = "elsewhere:1".into();
    let next = plan(Some(&ring), &Change::Recover(lost.clone())).unwrap();
    let known = next.member(&lost.id).unwrap();
    assert_eq!(
        (known.data_id, &known.addresses),
        (lost.data_id, &lost.addresses)
    );
    assert_eq!(
        known.zone, members[1].zone,
        "where replicas go does not change"
    );
    assert_eq!(
        (next.epoch, &next.placements),
        (ring.epoch + 1, &ring.placements)
    );
    assert_ne!(next.hash(), ring.hash());
    let stranger = member(9, 0, 1);
    let rows = [
        (
            members[1].clone(),
            PlanError::AlreadyMember(lost.id.clone()),
        ),
        (stranger.clone(), PlanError::NotMember(stranger.id.clone())),
    ];
    for (who, error) in rows {
        assert_eq!(plan(Some(&ring), &Change::Recover(who)), Err(error));
    }
    let moving = plan(Some(&ring), &Change::Join(stranger)).unwrap();
    let late = plan(Some(&moving), &Change::Recover(lost)).unwrap();
    assert_eq!(
        (late.placements, late.affairs),
        (moving.placements, moving.affairs)
    );
}
