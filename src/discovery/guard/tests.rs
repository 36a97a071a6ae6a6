//! Ids that are new count at once; ids that are gone in a suspicious number only after a second look.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
}

fn list(ids: impl IntoIterator<Item = usize>) -> List {
    List::new(ids.into_iter().map(|id| Entry::of(format!("id{id:04}").parse().unwrap())).collect())
}

fn ids(list: &List) -> Vec<usize> {
    list.entries().iter().map(|entry| entry.id.as_str()[2..].parse().unwrap()).collect()
}

/// A guard of a list of kind `file`, and of the others.
fn guards(known: usize) -> [Guard; 2] {
    [false, true].map(|keeps| {
        let mut guard = Guard::new(None, keeps, false);
        guard.judge(list(0..known), now(), true);
        guard
    })
}

fn judge(guard: &mut Guard, read: impl IntoIterator<Item = usize>) -> (Vec<usize>, Held) {
    let (believed, held) = guard.judge(list(read), now(), true);
    (ids(&believed), held)
}

#[test]
fn the_first_list_is_believed_even_if_it_is_empty() {
    let mut guard = Guard::new(None, true, false);
    assert_eq!(judge(&mut guard, []), (vec![], Held::Nothing));
    assert_eq!(judge(&mut guard, 0..2), (vec![0, 1], Held::Nothing));
}

#[test]
fn nine_ids_may_lose_all_but_one_at_once() {
    for mut guard in guards(9) {
        assert_eq!(judge(&mut guard, [0]), (vec![0], Held::Nothing));
    }
}

#[test]
fn ten_ids_may_lose_half_at_once_but_not_one_more() {
    for mut guard in guards(10) {
        assert_eq!(judge(&mut guard, 5..10), ((5..10).collect(), Held::Nothing));
    }
    for mut guard in guards(10) {
        assert_eq!(judge(&mut guard, 6..10), ((0..10).collect(), Held::Removals(6)));
    }
}

#[test]
fn an_id_that_is_gone_with_more_than_half_of_the_list_stays_until_a_second_read_says_so() {
    for mut guard in guards(10) {
        assert_eq!(judge(&mut guard, [0, 20]), ((0..10).chain([20]).collect(), Held::Removals(9)), "additions count");
        assert_eq!(judge(&mut guard, [0, 20, 30]), (vec![0, 20, 30], Held::Nothing));
    }
}

#[test]
fn ids_that_come_back_were_never_gone() {
    for mut guard in guards(10) {
        judge(&mut guard, [0]);
        assert_eq!(judge(&mut guard, 0..10), ((0..10).collect(), Held::Nothing));
        assert_eq!(judge(&mut guard, [0]), ((0..10).collect(), Held::Removals(9)), "and are to be confirmed anew");
    }
}

#[test]
fn a_second_read_removes_what_both_lack_and_holds_another_large_part() {
    for mut guard in guards(100) {
        assert_eq!(judge(&mut guard, 40..100).1, Held::Nothing);
    }
    for mut guard in guards(100) {
        // The first lacks 0 to 59. The second lacks 0 to 19 as well, and 60 to 99: two fifths, which may go at once.
        assert_eq!(judge(&mut guard, 60..100), ((0..100).collect(), Held::Removals(60)));
        assert_eq!(judge(&mut guard, 20..60), ((20..60).collect(), Held::Nothing));
    }
    for mut guard in guards(100) {
        judge(&mut guard, 60..100);
        // Sixty more came with the first, and all hundred that it had are gone in the second.
        assert_eq!(judge(&mut guard, (60..100).chain(200..260)).0.len(), 100);
    }
}

#[test]
fn reads_that_each_lack_another_half_never_remove_more_than_half_unconfirmed() {
    let mut guard = Guard::new(Some(Arc::new(list(0..30))), true, false);
    // Ids 0 to 29 and 30 to 99 in turn, as from two accounts: one of them is always new.
    assert_eq!(judge(&mut guard, 30..100), ((0..100).collect(), Held::Removals(30)));
    // What came with the read before is gone already: more than the thirty there were.
    assert_eq!(judge(&mut guard, 0..30), ((0..100).collect(), Held::Removals(70)));
    assert_eq!(judge(&mut guard, 30..100), ((0..100).collect(), Held::Removals(30)));
    assert_eq!(judge(&mut guard, 30..100), ((30..100).collect(), Held::Nothing));
}

#[test]
fn a_file_may_become_empty_once_that_is_confirmed_but_an_account_may_not() {
    let [mut file, mut account] = guards(20);
    assert_eq!(judge(&mut file, []), ((0..20).collect(), Held::Removals(20)));
    assert_eq!(judge(&mut file, []), (vec![], Held::Nothing));
    for _ in 0..3 {
        assert_eq!(judge(&mut account, []), ((0..20).collect(), Held::Everything(20)));
    }
    let (believed, held) = account.judge_again(now(), true).unwrap();
    assert_eq!((believed.len(), held), (20, Held::Everything(20)));
    assert_eq!(judge(&mut account, 0..19), ((0..19).collect(), Held::Nothing));
    for known in [1, 9] {
        let [mut file, mut account] = guards(known);
        assert_eq!(judge(&mut file, []).1, Held::Nothing);
        assert_eq!(judge(&mut account, []).1, Held::Everything(known));
    }
}

#[test]
fn an_empty_answer_confirms_no_removal() {
    let [_, mut account] = guards(20);
    judge(&mut account, 0..5);
    judge(&mut account, []);
    assert_eq!(judge(&mut account, 0..5), ((0..20).collect(), Held::Removals(15)));
}

#[test]
fn after_a_reload_exactly_the_next_read_may_be_empty() {
    let reloaded = || Guard::new(Some(Arc::new(list(0..20))), true, true);
    assert_eq!(judge(&mut reloaded(), []), (vec![], Held::Nothing));
    let mut guard = reloaded();
    assert_eq!(judge(&mut guard, 0..20).1, Held::Nothing);
    assert_eq!(judge(&mut guard, []).1, Held::Everything(20));
    let mut guard = reloaded();
    assert_eq!(judge(&mut guard, 0..5).1, Held::Removals(15), "a part that is gone is confirmed all the same");
}

#[test]
fn a_source_that_says_unchanged_confirms_what_it_said_before() {
    for mut guard in guards(10) {
        judge(&mut guard, [0]);
        let (believed, held) = guard.judge_again(now(), true).unwrap();
        assert_eq!((ids(&believed), held), (vec![0], Held::Nothing));
        let (again, held) = guard.judge_again(now(), true).unwrap();
        assert!(Arc::ptr_eq(&believed, &again) && held == Held::Nothing);
    }
    assert!(Guard::new(None, true, false).judge_again(now(), true).is_none());
}

#[test]
fn an_id_is_known_since_it_came_and_another_region_is_another_statement() {
    let later = now() + Duration::from_secs(60);
    let mut guard = Guard::new(None, true, false);
    guard.judge(list(0..2), now(), true);
    let mut read = list(0..3).into_entries();
    read[0].name = Some("orders".into());
    read[1].region = Some("us-east-1".parse().unwrap());
    let (believed, _) = guard.judge(List::new(read), later, true);
    let since: Vec<_> = believed.entries().iter().map(|entry| entry.since).collect();
    assert_eq!(since, [Some(now()), Some(later), Some(later)]);
    assert_eq!(believed.entries()[0].name.as_deref(), Some("orders"));
}

proptest! {
    #[test]
    fn whatever_is_read_counts_and_what_is_lost_was_missing_twice_or_is_the_smaller_part(
        reads in prop::collection::vec(prop::collection::btree_set(0_usize..40, 0..40), 1..12),
        keeps: bool,
    ) {
        let mut guard = Guard::new(None, keeps, false);
        let (mut before, _) = guard.judge(list(reads[0].iter().copied()), now(), true);
        let (mut last, mut size, mut held_before) = (&reads[0], before.len(), Held::Nothing);
        for read in &reads[1..] {
            let (believed, held) = guard.judge(list(read.iter().copied()), now(), true);
            let (was, is) = (ids(&before), ids(&believed));
            prop_assert!(read.iter().all(|id| is.contains(id)));
            prop_assert!(is.iter().all(|id| read.contains(id) || was.contains(id)));
            prop_assert_eq!(Arc::ptr_eq(&before, &believed), before == believed);
            if !matches!(held_before, Held::Removals(_)) {
                size = was.len();
            }
            let confirmed = |id: &usize| matches!(held_before, Held::Removals(_)) && !last.contains(id);
            let lost = was.iter().filter(|id| !is.contains(id) && !confirmed(id)).count();
            prop_assert!(size < GUARDED || lost * 2 <= size, "{} of {}", lost, size);
            prop_assert!(!keeps || was.is_empty() || !is.is_empty());
            if held == Held::Nothing {
                prop_assert_eq!(&is, &read.iter().copied().collect::<Vec<_>>());
            }
            (before, last, held_before) = (believed, read, held);
        }
        // A list that stays is believed in the end, unless it is empty.
        for _ in 0..2 {
            guard.judge(list(last.iter().copied()), now(), true);
        }
        let (believed, held) = guard.judge_again(now(), true).unwrap();
        if !last.is_empty() || !keeps {
            prop_assert_eq!((ids(&believed), held), (last.iter().copied().collect::<Vec<_>>(), Held::Nothing));
        }
    }
}

#[test]
fn a_read_too_soon_after_removals_were_held_adds_and_gives_back_but_confirms_nothing() {
    let mut guard = Guard::new(None, false, false);
    guard.judge(list(0..100), now(), true);
    assert_eq!(judge(&mut guard, 0..10).1, Held::Removals(90));
    let mut soon = |read: std::ops::Range<usize>| {
        let (believed, held) = guard.judge(list(read), now(), false);
        (believed.len(), held)
    };
    assert_eq!(soon(0..10), (100, Held::Removals(90)));
    assert_eq!(soon(5..45), (100, Held::Removals(60)), "not even those that neither had");
    assert_eq!(judge(&mut guard, 5..45), ((5..45).collect(), Held::Nothing));
}

#[test]
fn a_list_that_is_whole_again_before_the_time_is_over_is_believed() {
    let mut guard = Guard::new(None, false, false);
    guard.judge(list(0..100), now(), true);
    judge(&mut guard, 0..10);
    assert_eq!(guard.judge(list(1..100), now(), false), (guard.believed.clone().unwrap(), Held::Nothing));
    assert_eq!(guard.believed.as_ref().unwrap().len(), 99);
}
