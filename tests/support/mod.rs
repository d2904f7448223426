#![allow(unreachable_pub, dead_code)]

pub mod compare;
pub mod simulate;
pub mod through_tower;
pub mod verdicts;
pub mod world;

use compare::Observed;
use world::{Case, World};

/// Something that plays a case of a world. None: the case cannot be put to it.
pub trait Drive {
    fn case(&mut self, case: &Case) -> Option<Vec<Observed>>;
}

/// What each case of a world came to.
pub fn run(world: &World, driver: Result<Box<dyn Drive>, String>) -> Vec<CaseResult> {
    let mut driver = match driver {
        Ok(driver) => driver,
        Err(error) => {
            let all = world.cases.iter();
            return all.map(|case| CaseResult { case: case.name.clone(), differences: vec![error.clone()] }).collect();
        }
    };
    let mut results = Vec::new();
    let mut plain: Vec<(String, Observed)> = Vec::new();
    for case in &world.cases {
        let Some(seen) = driver.case(case) else { continue };
        let expect = &case.expect;
        let differences = if let Some(shares) = &expect.shares {
            compare::share_differences(shares, &seen)
        } else if let Some(outcomes) = &expect.outcomes {
            compare::outcome_differences(outcomes, &seen)
        } else {
            seen.first().map(|one| compare::differences(expect, one)).unwrap_or_default()
        };
        results.push(CaseResult { case: case.name.clone(), differences });
        plain.extend(seen.into_iter().map(|one| (case.name.clone(), one)));
    }
    for spread in &world.spread {
        let group: Vec<Observed> = (0..spread.of)
            .filter_map(|index| {
                let name = format!("{} {index}", spread.cases);
                plain.iter().find(|(case, _)| *case == name).map(|(_, seen)| seen.clone())
            })
            .collect();
        let differences = compare::spread_difference(&spread.picks, &group).into_iter().collect();
        results.push(CaseResult { case: format!("{} (spread)", spread.cases), differences });
    }
    results
}

/// One case, and how it differs from what was observed.
pub struct CaseResult {
    pub case: String,
    pub differences: Vec<String>,
}
