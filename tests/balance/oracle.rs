//! Turns by weight beside an exact simulation: deadlines as fractions, and every pick of the start done one by one.

use pointsman::balance::Edf;
use proptest::prelude::*;

/// Entries with deadlines in units of `1 / lcm`, so that nothing is rounded.
struct Exact {
    /// Deadline, order, index.
    entries: Vec<(u128, u64, usize)>,
    steps: Vec<u128>,
    order: u64,
}

impl Exact {
    fn new(weights: &[u32]) -> Exact {
        let lcm = weights.iter().fold(1u128, |lcm, weight| {
            let (mut a, mut b) = (lcm, u128::from(*weight));
            while b > 0 {
                (a, b) = (b, a % b);
            }
            lcm / a * u128::from(*weight)
        });
        let steps: Vec<u128> = weights.iter().map(|weight| lcm / u128::from(*weight)).collect();
        let entries = (0u64..).zip(&steps).map(|(order, step)| (*step, order, order as usize)).collect();
        Exact { entries, order: weights.len() as u64, steps }
    }

    fn pick(&mut self) -> (u128, usize) {
        let first = (0..self.entries.len()).min_by_key(|at| self.entries[*at]).expect("an entry");
        let (deadline, _, index) = self.entries[first];
        self.entries[first] = (deadline + self.steps[index], self.order, index);
        self.order += 1;
        (deadline, index)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Picks whose deadlines differ come in the exact order; among equal deadlines floating point may swap, so what is
    /// compared is who was picked by the end of each group of equal deadlines.
    #[test]
    fn turns_are_the_exact_simulations(weights in prop::collection::vec(1u32..30, 1..10), ahead in 0u64..2_000) {
        let floats: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
        let mut exact = Exact::new(&weights);
        let mut edf = Edf::new(&floats, ahead);
        let mut counts = vec![0i64; weights.len()];
        for _ in 0..ahead {
            exact.pick();
        }
        let mut deadline = None;
        let mut first = true;
        for _ in 0..600 {
            let (next, index) = exact.pick();
            if deadline != Some(next) {
                // The first group may have been begun before the start, in another order.
                if deadline.is_some() && !first {
                    prop_assert!(counts.iter().all(|count| *count == 0), "{:?} after {}", counts, ahead);
                }
                if deadline.is_some() && first {
                    prop_assert!(counts.iter().all(|count| count.abs() <= 1), "{:?} after {}", counts, ahead);
                    first = counts.iter().any(|count| *count != 0);
                }
                deadline = Some(next);
            }
            counts[index] += 1;
            counts[edf.pick(|at| floats[at]).expect("an entry")] -= 1;
        }
    }

    /// Equal weights: each cycle is everybody, whatever the start.
    #[test]
    fn equal_weights_take_turns(count in 1usize..20, weight in 1u32..100, seed in 0u64..10_000) {
        let weights = vec![f64::from(weight); count];
        let mut edf = Edf::new(&weights, seed);
        let mut counts = vec![0u32; count];
        for _ in 0..count * 10 {
            counts[edf.pick(|at| weights[at]).expect("an entry")] += 1;
        }
        prop_assert!(counts.iter().all(|count| (9..=11).contains(count)), "{:?}", counts);
    }
}

/// A start billions of picks ahead costs no billions of picks, and is where they would have led.
#[test]
fn a_far_start_is_worked_out_at_once() {
    for weights in [vec![1.0, 2.0, 3.0], vec![7.0, 3.0, 11.0, 2.0, 1.0], vec![10.0, 20.0, 30.0, 40.0], vec![100.0, 1.0]]
    {
        let total: f64 = weights.iter().sum();
        let cycle = total as usize;
        for seed in [0, 1, 429_496_728, 429_496_729, 4_294_967_295, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let mut edf = Edf::new(&weights, seed);
            let mut counts = vec![0.0; weights.len()];
            for _ in 0..10 * cycle {
                counts[edf.pick(|at| weights[at]).expect("an entry")] += 1.0;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let difference: f64 = count - 10.0 * weight;
                assert!(difference.abs() <= 1.0, "{counts:?} of {weights:?} from {seed}");
            }
        }
    }
    assert_eq!(Edf::new(&[], 5).pick(|_| 1.0), None);
}
