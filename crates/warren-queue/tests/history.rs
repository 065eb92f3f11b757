//! What an exchange remembers: a stream that keeps so many messages, in which one can look.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::{Answer, Ask};
use warren_types::{Position, QueueSettings, StreamSettings};

fn bench(keeps: u64) -> Bench {
    let stream = Some(StreamSettings { max_age_ms: None, max_messages: Some(keeps) });
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(QueueSettings { stream, ..QueueSettings::default() }));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn look(bench: &mut Bench, key: u64, after: u64, max_messages: u32) -> (Vec<String>, Position, Position) {
    let answer = bench.ask(key, Ask::Browse { queue: Q, after: Position(after), max_messages });
    let Some(Answer::Browsed { deliveries, last }) = answer else { panic!("{answer:?}") };
    let newest = deliveries.last().map(|delivery| delivery.position).unwrap_or_default();
    (deliveries.iter().map(|delivery| text(&delivery.message)).collect(), newest, last)
}

/// Everything, piece by piece.
fn all(bench: &mut Bench, key: u64, at_once: u32) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), Position(0));
    loop {
        let (texts, newest, last) = look(bench, key, after.0, at_once);
        if texts.is_empty() {
            return found;
        }
        found.extend(texts);
        after = newest;
        if after >= last {
            return found;
        }
    }
}

#[test]
fn the_last_messages_are_kept_and_looking_takes_none_away() {
    let mut bench = bench(3);
    assert_eq!(all(&mut bench, 1, 10), [] as [&str; 0]);
    bench.publish(1, &["a", "b", "c", "d", "e"]);
    assert_eq!(bench.store.live(Q), [Position(3), Position(4), Position(5)]);
    for _ in 0..2 {
        assert_eq!(all(&mut bench, 1, 10), ["c", "d", "e"]);
        assert_eq!(all(&mut bench, 1, 1), ["c", "d", "e"]);
    }
    assert_eq!(look(&mut bench, 1, 4, 10), (vec!["e".to_owned()], Position(5), Position(5)));
}

#[test]
fn what_is_on_its_way_out_is_not_shown() {
    let mut bench = bench(2);
    bench.publish(1, &["a", "b"]);
    bench.hold = true;
    bench.publish(1, &["c"]);
    bench.commit(1);
    assert_eq!(bench.store.live(Q).len(), 3, "the log does not know yet that one leaves");
    bench.hold = false;
    assert_eq!(all(&mut bench, 1, 10), ["b", "c"]);
}

#[test]
fn a_look_behind_a_publish_shows_it() {
    let mut bench = bench(2);
    bench.hold = true;
    bench.publish(1, &["a"]);
    let asked = bench.ask(1, Ask::Browse { queue: Q, after: Position(0), max_messages: 10 });
    assert_eq!(asked, None, "answered before what the session has published is applied");
    bench.commit(1);
    let answers = bench.frames(1);
    let shown = answers.iter().find_map(|frame| match frame {
        warren_proto::session::LeaderFrame::Reply { answer: Answer::Browsed { deliveries, .. }, .. } => {
            Some(deliveries.len())
        }
        _ => None,
    });
    assert_eq!(shown, Some(1));
}

#[test]
fn a_history_is_not_read_again_for_every_message_that_leaves_it() {
    let mut bench = bench(4);
    for number in 0..100 {
        bench.publish(1, &[&number.to_string()]);
    }
    assert_eq!(bench.loads, 0, "it has seen all that is in it");
    bench.fail_over(0, &[1]);
    bench.attach(2, 1, 2);
    bench.seqs_from(2, 100);
    for number in 100..200 {
        bench.publish(2, &[&number.to_string()]);
    }
    assert!(bench.loads <= 2, "a new leader reads what it has not seen: {} times", bench.loads);
    assert_eq!(all(&mut bench, 2, 10), ["196", "197", "198", "199"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whoever leads, and however large the pieces are, the last so many messages are what one sees and what is kept.
    #[test]
    fn a_history_is_the_last_messages(
        keeps in 1..6_u64,
        rounds in prop::collection::vec((0..5_usize, any::<bool>(), 1..4_u32), 1..20),
    ) {
        let mut bench = bench(keeps);
        let (mut published, mut key): (Vec<String>, u64) = (Vec::new(), 1);
        for (count, fail_over, at_once) in rounds {
            let more: Vec<String> = (published.len()..published.len() + count).map(|n| n.to_string()).collect();
            bench.publish(key, &more.iter().map(String::as_str).collect::<Vec<_>>());
            published.extend(more);
            if fail_over {
                bench.fail_over(0, &[1]);
                key += 1;
                bench.attach(key, 1, key);
                bench.seqs_from(key, published.len() as u64);
            }
            let from = published.len().saturating_sub(usize::try_from(keeps).unwrap());
            prop_assert_eq!(all(&mut bench, key, at_once), &published[from..]);
            prop_assert!(bench.store.live(Q).len() as u64 <= keeps.max(1));
        }
    }
}
