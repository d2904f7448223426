//! Retry budgets over an interval: the sliding count as Envoy's own test has it, beside a plain list, and through a
//! destination.

use crate::upstream;
use http::Version;
use pointsman::limit::{Limit, Window, retry_budget};
use pointsman::time::Timestamp;
use pointsman::upstream::Admission;
use proptest::prelude::*;
use std::time::Duration;

const WINDOW: Duration = Duration::from_millis(100);

fn add(window: &Window, times: usize, at: u64) {
    (0..times).for_each(|_| window.add(Timestamp::from_millis(at), WINDOW));
}

/// 20 %, at least 5, over 100 ms: 100 requests, a tick, 50 more, 8 ticks, a tick, a tick, 10 more.
#[test]
fn a_request_counts_for_the_length_of_the_window() {
    let window = Window::default();
    let budget = |at: u64| retry_budget(20.0, 5, window.count(Timestamp::from_millis(at), WINDOW));
    assert_eq!(budget(0), 5);
    add(&window, 100, 5);
    assert_eq!(budget(5), 20);
    assert_eq!(budget(15), 20);
    add(&window, 50, 15);
    assert_eq!(budget(15), 30);
    assert_eq!(budget(95), 30);
    assert_eq!(budget(105), 10);
    assert_eq!(budget(115), 5);
    add(&window, 10, 115);
    assert_eq!(budget(115), 5);
    // Long afterwards, and at the end of time.
    assert_eq!(budget(1_000_000), 5);
    assert_eq!(window.count(Timestamp::MAX, WINDOW), 0);
    assert_eq!(window.count(Timestamp::MAX, Duration::ZERO), 0);
}

#[test]
fn a_budget_over_an_interval_counts_requests_that_are_over() {
    for (interval, expected) in [("", 1), (", budgetInterval: 4s", 8)] {
        let budget = format!("retryBudget: {{percent: 20, minRetryConcurrency: 1{interval}}}");
        let (_upstreams, upstream) = upstream(&budget, 1);
        let now = Timestamp::from_millis(20_000);
        let endpoint = upstream.pick(None, &[], false, false, now, &mut || 0).expect("an endpoint");
        for _ in 0..40 {
            assert!(matches!(upstream.admit(&endpoint, Version::HTTP_11, now), Admission::Admitted(_)));
        }
        let held: Vec<_> = std::iter::from_fn(|| upstream.admit_retry(now).ok()).collect();
        assert_eq!(held.len(), expected, "{budget}");
        let refused = upstream.admit_retry(now).expect_err("one more");
        assert_eq!(refused.limit, Limit::RetryBudget);
        assert_eq!((refused.most as usize, refused.under_way as usize), (expected, expected));
        assert_eq!(refused.to_string(), format!("retryBudget: {expected} are under way, at most {expected} may be"));
        drop(held);
        let later = now + Duration::from_secs(5);
        let held: Vec<_> = std::iter::from_fn(|| upstream.admit_retry(later).ok()).collect();
        assert_eq!(held.len(), 1, "{budget}: they are long ago");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a list of times: whatever is younger than nine tenths of the window counts, whatever is older than the window
    /// does not, and in between it is the slot that decides.
    #[test]
    fn a_window_counts_what_was_lately(steps in prop::collection::vec((0u64..60, 0usize..4), 0..80)) {
        let window = Window::default();
        let (mut now, mut times) = (0, Vec::new());
        for (wait, more) in steps {
            now += wait;
            add(&window, more, now);
            times.extend(std::iter::repeat_n(now, more));
            let naive = times.iter().filter(|time| **time / 10 + 10 > now / 10).count();
            let count = window.count(Timestamp::from_millis(now), WINDOW) as usize;
            prop_assert_eq!(count, naive);
            prop_assert!(count >= times.iter().filter(|time| now - **time < 90).count());
            prop_assert!(count <= times.iter().filter(|time| now - **time < 100).count());
        }
    }
}
