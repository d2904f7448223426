//! The proxy of `examples/own_loop.rs`, driven over real sockets: what it does alone, and with many clients at once.

#[path = "../examples/own_loop/http1.rs"]
mod http1;
#[path = "../examples/own_loop/proxy.rs"]
mod proxy;
#[path = "../examples/own_loop/town.rs"]
mod town;

use std::thread;
use town::{Manner, Pod};

#[test]
fn many_clients_are_served_around_a_failing_pod_and_one_that_is_not_there() {
    let good = Pod::start("good", Manner::Well).unwrap();
    let failing = Pod::start("failing", Manner::Failing).unwrap();
    let shadow = Pod::start("shadow", Manner::Well).unwrap();
    let proxy = town::proxy(&[good.address, failing.address, town::nobody().unwrap()], shadow.address).unwrap();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..20 {
                    let (head, body) = town::ask(proxy, "/any", "hello").unwrap();
                    assert_eq!((head.status.as_u16(), body.as_str()), (200, "good"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(good.served(), 160);
    assert_eq!(shadow.served(), 0);
}

#[test]
fn a_slow_pod_costs_no_more_than_the_timeout() {
    let slow = Pod::start("slow", Manner::Slow).unwrap();
    let proxy = town::proxy(&[slow.address], slow.address).unwrap();
    let (head, body) = town::ask(proxy, "/slow", "").unwrap();
    assert_eq!((head.status.as_u16(), body.as_str()), (504, "upstream request timeout"));
    let (head, body) = town::ask(proxy, "/sometimes-slow", "").unwrap();
    assert_eq!((head.status.as_u16(), body.as_str()), (504, "upstream request timeout"));
    assert_eq!(slow.served(), 1 + 5, "one attempt of the first, five of the second");
}

#[test]
fn what_is_sent_is_what_the_rule_says() {
    let good = Pod::start("good", Manner::Well).unwrap();
    let shadow = Pod::start("shadow", Manner::Well).unwrap();
    let proxy = town::proxy(&[good.address], shadow.address).unwrap();
    let (head, body) = town::ask(proxy, "/old/a?b", "body").unwrap();
    assert_eq!((head.status.as_u16(), body.as_str()), (200, "good"));
    assert_eq!(head.headers["x-route"], "renamed");
    assert_eq!(good.last(), "/new/a?b /old/a?b body");
    let (head, body) = town::ask(proxy, "/gone", "").unwrap();
    assert_eq!((head.status.as_u16(), body.as_str()), (410, "gone for good"));
    assert_eq!(good.served(), 1);
}
