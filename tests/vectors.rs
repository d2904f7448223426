//! Exact picks of consistent hashing, as Envoy was seen to make them, and the tables and turns that it makes for small
//! inputs. All must be equal bit by bit: a fleet that is half this and half Envoy sends a key to one endpoint.
//!
//! `tests/vectors/*.json` has for each arrangement of hosts the host that each of 200 header values went to.

#![allow(clippy::unwrap_used)]

use pointsman::balance::{Algorithm, Cursors, Edf, Host, Maglev, Pick, Ring, Settings, Table};
use pointsman::time::Timestamp;
use serde_json::Value;
use twox_hash::XxHash64;

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What consistent hashing hashes of a host. Its address, unless the case says otherwise.
fn key(host: &Value, case: &Value) -> String {
    let by_hostname = &case["lb_config"]["consistent_hashing_lb_config"]["use_hostname_for_hashing"];
    let key = match (&host["hash_key"], by_hostname.as_bool()) {
        (Value::String(key), _) => key,
        (_, Some(true)) => host["hostname"].as_str().unwrap(),
        _ => host["address"].as_str().unwrap(),
    };
    key.to_owned()
}

fn hosts(case: &Value) -> Vec<Host> {
    let mut hosts: Vec<Host> = case["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| Host::new(key(host, case), u32::try_from(host["weight"].as_u64().unwrap_or(1)).unwrap()))
        .collect();
    for (place, locality) in case["localities"].as_array().into_iter().flatten().enumerate() {
        for index in locality["hosts"].as_array().unwrap() {
            hosts[index.as_u64().unwrap() as usize].place = place;
        }
    }
    hosts
}

fn table(case: &Value, algorithm: Algorithm) -> Table {
    let mut settings = Settings::new(algorithm);
    settings.place_weights = case["localities"]
        .as_array()
        .map(|places| places.iter().map(|place| place["weight"].as_u64().unwrap()).collect());
    Table::new(hosts(case), settings, &mut Cursors::default(), Timestamp::ZERO)
}

fn pick(table: &Table, hash: u64) -> usize {
    let mut no_draws = || -> u64 { panic!("a hash needs no draw") };
    let pick = Pick { hash: Some(hash), ..Pick::default() };
    table.pick(&pick, Timestamp::ZERO, &mut no_draws).unwrap()
}

fn check(vectors: &Value, name: &str, picks: impl Fn(u64) -> usize) {
    let values = vectors["header_values"].as_array().unwrap();
    let chosen = vectors["cases"][name]["chosen"].as_array().unwrap();
    assert_eq!(values.len(), chosen.len(), "{name}");
    for (value, chosen) in values.iter().zip(chosen) {
        let hash = XxHash64::oneshot(0, value.as_str().unwrap().as_bytes());
        assert_eq!(picks(hash) as u64, chosen.as_u64().unwrap(), "{name}: {value}");
    }
}

/// How often each host is there: the least and the greatest number.
fn extremes(hosts: impl Iterator<Item = u32>) -> (u64, u64) {
    let mut counts = std::collections::BTreeMap::<u32, u64>::new();
    hosts.for_each(|host| *counts.entry(host).or_default() += 1);
    (counts.values().copied().min().unwrap(), counts.values().copied().max().unwrap())
}

#[test]
fn ring_hash_picks_what_envoy_picks() {
    let vectors = load(include_str!("vectors/ring_hash.json"));
    let mut picks = 0;
    for (name, case) in vectors["cases"].as_object().unwrap() {
        let config = &case["lb_config"];
        if config["hash_function"] == "MURMUR_HASH_2" {
            // Envoy's other hash, which Istio never asks for and this crate does not have.
            assert_eq!(name, "murmur2");
            continue;
        }
        let minimum_size = config["minimum_ring_size"].as_u64().unwrap_or(1024);
        let maximum_size = config["maximum_ring_size"].as_u64();
        let mut sizes = None;
        if case["localities"].is_null() {
            let hosts = hosts(case);
            let total: f64 = hosts.iter().map(|host| f64::from(host.weight)).sum();
            let weights: Vec<_> = hosts.iter().map(|host| (host.key.clone(), f64::from(host.weight) / total)).collect();
            let ring = Ring::bounded(&weights, minimum_size, maximum_size.unwrap_or(u64::MAX));
            check(&vectors, name, |hash| ring.pick(hash, 0).unwrap());
            sizes = Some((ring.places().len() as u64, extremes(ring.places().iter().map(|(_, host)| *host))));
        }
        if let Some((size, (least, most))) = sizes {
            assert_eq!(size, case["stats"]["size"].as_u64().unwrap(), "{name}");
            assert_eq!(least, case["stats"]["min_hashes_per_host"].as_u64().unwrap(), "{name}");
            assert_eq!(most, case["stats"]["max_hashes_per_host"].as_u64().unwrap(), "{name}");
        }
        // The table has Envoy's greatest size; a lesser one only the ring can be asked for.
        if maximum_size.is_none_or(|size| size > case["stats"]["size"].as_u64().unwrap()) {
            let table = table(case, Algorithm::RingHash { minimum_size });
            check(&vectors, name, |hash| pick(&table, hash));
        }
        picks += 200;
    }
    assert_eq!(picks, 1_800);

    let equal = table(&vectors["cases"]["equal"], Algorithm::RingHash { minimum_size: 1024 });
    for item in vectors["hash_policy_cases"]["items"].as_array().unwrap() {
        let hash: u64 = item["hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(pick(&equal, hash) as u64, item["chosen"].as_u64().unwrap(), "{item}");
    }
}

#[test]
fn maglev_picks_what_envoy_picks() {
    let vectors = load(include_str!("vectors/maglev.json"));
    let mut picks = 0;
    for (name, case) in vectors["cases"].as_object().unwrap() {
        let table_size = case["lb_config"]["table_size"].as_u64().unwrap_or(65_537);
        let table = table(case, Algorithm::Maglev { table_size });
        check(&vectors, name, |hash| pick(&table, hash));
        if case["localities"].is_null() {
            let weights: Vec<_> = hosts(case).iter().map(|host| (host.key.clone(), f64::from(host.weight))).collect();
            let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
            let weights: Vec<_> = weights.into_iter().map(|(key, weight)| (key, weight / total)).collect();
            let (least, most) = extremes(Maglev::new(&weights, table_size).slots().iter().copied());
            assert_eq!(least, case["stats"]["min_entries_per_host"].as_u64().unwrap(), "{name}");
            assert_eq!(most, case["stats"]["max_entries_per_host"].as_u64().unwrap(), "{name}");
        }
        picks += 200;
    }
    assert_eq!(picks, 1_400);
}

fn addresses(ports: impl IntoIterator<Item = u32>, weights: &[f64]) -> Vec<(String, f64)> {
    let total: f64 = weights.iter().sum();
    ports.into_iter().zip(weights).map(|(port, weight)| (format!("127.0.0.1:{port}"), weight / total)).collect()
}

#[test]
fn small_rings_are_envoys() {
    let ports = |ring: &Ring, first: u32| -> Vec<(u64, u32)> {
        ring.places().iter().map(|(hash, host)| (*hash, first + host)).collect()
    };
    let six = Ring::new(&addresses(90..96, &[1.0; 6]), 12);
    assert_eq!(
        ports(&six, 90),
        [
            (833437586790550860, 94),
            (928266305478181108, 92),
            (1033482794131418490, 90),
            (3551244743356806947, 95),
            (3851675632748031481, 93),
            (5583722120771150861, 91),
            (6311230543546372928, 91),
            (7700377290971790572, 93),
            (13144177310400110813, 95),
            (13444792449719432967, 92),
            (15516499411664133160, 94),
            (16117243373044804889, 90),
        ]
    );
    for (hash, port) in
        [(0, 94), (u64::MAX, 94), (3551244743356806947, 95), (3551244743356806948, 93), (16117243373044804880, 90)]
    {
        assert_eq!(six.pick(hash, 0), Some(port - 90), "{hash}");
    }
    // A retry goes on from place to place: past 94, then past 92; the 13th step has gone round.
    assert_eq!([1, 2, 13].map(|attempt| six.pick(0, attempt).unwrap() + 90), [92, 90, 92]);

    let keys: Vec<(String, f64)> = (90..96).map(|key: u32| (key.to_string(), 1.0 / 6.0)).collect();
    assert_eq!(
        ports(&Ring::new(&keys, 12), 90),
        [
            (1975508444536362413, 95),
            (2376063919839173711, 95),
            (2386806903309390596, 93),
            (6749904478991551885, 94),
            (6803900775736438537, 93),
            (7225015537174310577, 92),
            (8787465352164086522, 90),
            (11282020843382717940, 92),
            (13723418369486627818, 91),
            (13776502110861797421, 90),
            (14338313586354474791, 91),
            (15364271037087512980, 94),
        ]
    );
    assert_eq!(
        ports(&Ring::new(&addresses(80..82, &[1.0; 2]), 3), 80),
        [(5454692015285649509, 80), (7859399908942313493, 81), (13838424394637650569, 80), (16064866803292627174, 81)]
    );
    assert_eq!(
        ports(&Ring::bounded(&addresses(90..93, &[1.0, 2.0, 3.0]), 6, 6), 90),
        [
            (928266305478181108, 92),
            (4443673547860492590, 92),
            (5583722120771150861, 91),
            (6311230543546372928, 91),
            (13444792449719432967, 92),
            (16117243373044804889, 90),
        ]
    );
    let large = Ring::new(&addresses(90..93, &[1.0, 2.0, 3.0]), 6_144);
    let mut hits = [0; 3];
    for step in 0..6_000 {
        hits[large.pick(step * (u64::MAX / 6_000), 0).unwrap()] += 1;
    }
    assert_eq!((large.places().len(), hits), (6_144, [987, 1_932, 3_081]));

    let count = |ring: &Ring, hosts: u32| -> Vec<usize> {
        (0..hosts).map(|host| ring.places().iter().filter(|(_, other)| *other == host).count()).collect()
    };
    let scarce = Ring::bounded(&addresses(90..94, &[1.0; 4]), 2, 2);
    assert_eq!(count(&scarce, 4).iter().filter(|count| **count == 0).count(), 2);
    assert_eq!(count(&Ring::bounded(&addresses(90..92, &[1.0; 2]), 1_023, 1_023), 2), [512, 511]);
    assert_eq!(Ring::new::<&str>(&[], 1_024).pick(7, 0), None);
}

#[test]
fn small_maglev_tables_are_envoys() {
    let ports = |hosts: &[(String, f64)], size: u64, first: u32| -> Vec<u32> {
        Maglev::new(hosts, size).slots().iter().map(|host| first + host).collect()
    };
    let six = addresses(90..96, &[1.0; 6]);
    assert_eq!(ports(&six, 7, 90), [92, 94, 90, 91, 95, 90, 93]);
    // A retry looks elsewhere.
    let table = Maglev::new(&six, 7);
    assert_eq!([0, 1, 2].map(|attempt| table.pick(10, attempt).unwrap() + 90), [91, 90, 95]);
    let keys: Vec<(String, f64)> = (90..96).map(|key: u32| (key.to_string(), 1.0 / 6.0)).collect();
    assert_eq!(ports(&keys, 7, 90), [92, 95, 90, 93, 94, 91, 90]);
    // The order that hosts are told in does not matter.
    let backwards: Vec<_> = six.iter().rev().cloned().collect();
    let table: Vec<u32> = Maglev::new(&backwards, 7).slots().iter().map(|host| 95 - host).collect();
    assert_eq!(table, [92, 94, 90, 91, 95, 90, 93]);
    assert_eq!(
        ports(&addresses(90..92, &[1.0, 2.0]), 17, 90),
        [91, 90, 90, 91, 90, 91, 91, 90, 91, 91, 91, 91, 91, 90, 91, 90, 91]
    );
    assert_eq!(
        ports(&addresses(90..92, &[1.0; 2]), 17, 90),
        [91, 90, 90, 91, 90, 91, 91, 90, 90, 91, 90, 91, 90, 90, 91, 90, 91]
    );
    assert_eq!(
        ports(&addresses(90..92, &[8.0, 2.0]), 17, 90),
        [91, 90, 90, 90, 90, 90, 91, 90, 90, 91, 90, 91, 90, 90, 90, 90, 90]
    );
    for (weights, head) in [
        ([1.0; 5], [4, 3, 0, 1, 2, 1, 4, 1, 3, 2, 4, 4, 0, 4, 3, 0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [4, 3, 0, 4, 2, 3, 4, 1, 3, 2, 4, 4, 3, 4, 3, 0]),
    ] {
        assert_eq!(ports(&addresses(19_101..19_106, &weights), 65_537, 0)[..16], head);
    }
    // One heavy host, and 1,023 that get their one slot all the same.
    let mut weights = vec![1.0 / 1_024.0 / 1_023.0; 1_023];
    weights.push(127.0 / 128.0);
    let hosts: Vec<(String, f64)> =
        (0..).zip(weights).map(|(port, weight)| (format!("10.0.0.1:{port}"), weight)).collect();
    let slots = Maglev::new(&hosts, 65_537);
    assert_eq!(slots.slots().iter().filter(|host| **host == 1_023).count(), 64_514);
    assert_eq!(Maglev::new::<&str>(&[], 65_537).pick(7, 0), None);
}

/// A place of weight 0 is left out of hashing altogether, and does not take the others with it.
#[test]
fn a_place_of_no_weight_gets_no_key() {
    let mut hosts: Vec<Host> = [90, 92, 91].map(|port| Host::new(format!("127.0.0.1:{port}"), 1)).into();
    for (place, host) in hosts.iter_mut().enumerate() {
        host.place = place;
    }
    let table = |algorithm: Algorithm, weights: [u64; 3]| {
        let mut settings = Settings::new(algorithm);
        settings.place_weights = Some(weights.to_vec());
        Table::new(hosts.clone(), settings, &mut Cursors::default(), Timestamp::ZERO)
    };
    let maglev = table(Algorithm::Maglev { table_size: 17 }, [8, 0, 2]);
    let slots: Vec<usize> = (0..17).map(|hash| [90, 92, 91][pick(&maglev, hash)]).collect();
    assert_eq!(slots, [91, 90, 90, 90, 90, 90, 91, 90, 90, 91, 90, 91, 90, 90, 90, 90, 90]);
    let ring = table(Algorithm::RingHash { minimum_size: 1_024 }, [8, 0, 2]);
    let picked: std::collections::BTreeSet<usize> =
        (0..1_000u64).map(|key| pick(&ring, XxHash64::oneshot(0, &key.to_le_bytes()))).collect();
    assert_eq!(picked.into_iter().collect::<Vec<_>>(), [0, 2]);
    for algorithm in [Algorithm::RingHash { minimum_size: 8 }, Algorithm::Maglev { table_size: 17 }] {
        let none = table(algorithm, [0, 0, 0]);
        assert_eq!(none.pick(&Pick { hash: Some(1), ..Pick::default() }, Timestamp::ZERO, &mut || 0), None);
    }
}

#[test]
fn the_hash_is_xxhash64() {
    for (text, seed, hash) in [
        ("", 0, 17241709254077376921),
        ("", 1, 15397730242686860875),
        ("a", 0, 15154266338359012955),
        ("127.0.0.1:90", 0, 13180206916909469397),
        ("127.0.0.1:90", 1, 1521841302816948213),
        ("127.0.0.1:90_0", 0, 16117243373044804889),
    ] {
        assert_eq!(XxHash64::oneshot(seed, text.as_bytes()), hash, "{text} {seed}");
    }
}

/// Turns by weight: what comes first, for each seed.
#[test]
fn turns_are_envoys() {
    let turns: &[(&[f64], u64, &str)] = &[
        (&[1.0, 2.0], 0, "101101"),
        (&[1.0, 2.0], 1, "011011"),
        (&[1.0, 2.0], 2, "110110"),
        (&[1.0, 2.0, 3.0], 0, "212012"),
        (&[1.0, 2.0, 3.0], 1, "120122"),
        (&[1.0, 2.0, 3.0], 2, "201221"),
        (&[1.0, 2.0, 3.0], 3, "012212"),
        (&[1.0, 2.0, 3.0], 4, "122120"),
        (&[1.0, 2.0, 3.0], 5, "221201"),
        (&[5.0, 1.0, 1.0], 0, "0000120"),
        (&[5.0, 1.0, 1.0], 1, "0001200"),
        (&[5.0, 1.0, 1.0], 2, "0012000"),
        (&[5.0, 1.0, 1.0], 3, "0120000"),
        (&[5.0, 1.0, 1.0], 4, "1200000"),
        (&[5.0, 1.0, 1.0], 5, "2000001"),
        (&[5.0, 1.0, 1.0], 6, "0000012"),
        (&[3.0, 2.0], 0, "0101001010"),
        (&[3.0, 2.0], 1, "1010010100"),
        (&[3.0, 2.0], 2, "0100101001"),
        (&[3.0, 2.0], 3, "1001010010"),
        (&[3.0, 2.0], 4, "0010100101"),
        (&[1.0, 1.0, 2.0, 4.0], 0, "32330123"),
        (&[1.0, 1.0, 2.0, 4.0], 1, "23301233"),
        (&[1.0, 1.0, 2.0, 4.0], 2, "33012332"),
        (&[1.0, 1.0, 2.0, 4.0], 4, "01233233"),
        (&[1.0, 1.0, 2.0, 4.0], 7, "33233012"),
        (&[10.0, 20.0, 30.0, 40.0], 0, "32132301233213230123"),
        (&[7.0, 3.0, 11.0, 2.0, 1.0], 0, "202201202320210220243102"),
        // A host that warms up: its share so far.
        (&[1.0, 12.0 / 60.0], 0, "00001"),
        (&[1.0, 20.0 / 60.0], 0, "001"),
        (&[1.0, 0.35], 0, "0010001"),
        (&[1.0, 0.5], 0, "0100100"),
    ];
    for (weights, seed, expected) in turns {
        let mut edf = Edf::new(weights, *seed);
        let turn: String = expected.chars().map(|_| edf.pick(|at| weights[at]).unwrap().to_string()).collect();
        assert_eq!(turn, **expected, "{weights:?}, seed {seed}");
    }
    let firsts: Vec<usize> =
        (0..10).map(|seed| Edf::new(&[6.0, 3.0, 1.0], seed).pick(|at| [6.0, 3.0, 1.0][at]).unwrap()).collect();
    assert_eq!(firsts, [0, 1, 0, 0, 1, 0, 0, 2, 1, 0]);
    let firsts: Vec<usize> =
        (0..10).map(|seed| Edf::new(&[1.0, 6.0, 3.0], seed).pick(|at| [1.0, 6.0, 3.0][at]).unwrap()).collect();
    assert_eq!(firsts, [1, 2, 1, 1, 2, 1, 1, 0, 2, 1]);
    // A weight that changes acts after the next pick.
    let mut edf = Edf::new(&[1.0, 2.0], 0);
    let mut turn = |weights: [f64; 2], picks: usize| -> String {
        (0..picks).map(|_| edf.pick(|at| weights[at]).unwrap().to_string()).collect()
    };
    assert_eq!((turn([1.0, 2.0], 6), turn([2.0, 1.0], 8)), ("101101".to_owned(), "10010010".to_owned()));
}
