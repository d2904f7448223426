//! Connections that are not HTTP: listeners by address, filter chains by how specific they are, not by order.
//!
//! The listener on the connection's own address, else the one on every address. Of its chains those with the longest
//! destination prefix that holds the address, and no others: there is no way back to a shorter one. Of them the server
//! name of the TLS hello decides: exact, the longest `*.suffix`, none; of equals the first. A chain without any condition
//! takes what is left, and then what the listener does with the unknown. One draw, and only where a chain has several
//! destinations. The cost grows with the chains of the listener.

use super::explain::{FailedCondition, folded};
use super::table::pick_weighted;
use super::{ChainSpec, Connection, ConnectionVerdict, Origin, Policy, UnknownConnection};
use crate::entropy::Draws;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How specific a chain is for a connection that it takes: prefix length, then server name.
type Rank = (usize, usize);

/// The first condition of a chain that does not hold.
enum Failed<'c> {
    Address(&'c ChainSpec),
    ServerName(&'c ChainSpec),
}

impl ChainSpec {
    /// Does it take whatever no other chain takes?
    fn is_fallback(&self) -> bool {
        self.subnets.is_empty() && self.server_names.is_empty()
    }

    /// The longest prefix that holds the address, and one more; 0 where any address will do.
    fn prefix(&self, address: Option<IpAddr>) -> Option<usize> {
        if self.subnets.is_empty() {
            return Some(0);
        }
        let holding = self.subnets.iter().filter(|net| address.is_some_and(|at| net.contains(&at)));
        holding.map(|net| 1 + usize::from(net.prefix_len())).max()
    }

    /// How specific the chain is for a connection whose server name is in lower case.
    fn rank(&self, connection: &Connection<'_>, sni: Option<&str>) -> Result<Rank, Failed<'_>> {
        let subnet = self.prefix(connection.address).ok_or(Failed::Address(self))?;
        let name = if self.server_names.is_empty() {
            0
        } else {
            let sni = sni.ok_or(Failed::ServerName(self))?;
            let covers = |name: &&str| match name.strip_prefix('*') {
                Some(suffix) => sni.len() > suffix.len() && sni.ends_with(suffix),
                None => *name == sni,
            };
            let rank = |name: &str| if name.starts_with('*') { name.len() } else { usize::MAX };
            let names = self.server_names.iter().map(|name| &**name);
            names.filter(covers).map(rank).max().ok_or(Failed::ServerName(self))?
        };
        Ok((subnet, name))
    }
}

/// Why a connection goes where it goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectionExplanation {
    /// The port that was dialled.
    pub port: u16,
    /// Where it was going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The server name of its TLS hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Every chain of the listener, in written order.
    pub chains: Vec<ChainStep>,
    /// What comes of it.
    pub outcome: ConnectionOutcome,
}

/// One chain that was asked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChainStep {
    /// Where it was written.
    pub origin: Origin,
    /// The first condition that failed; none for a chain that would take the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedCondition>,
    /// Does it take it? A chain that would may have lost to a more specific or an earlier one.
    pub taken: bool,
}

/// What comes of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
#[non_exhaustive]
pub enum ConnectionOutcome {
    /// It is forwarded.
    #[serde(rename_all = "camelCase")]
    Forward {
        /// The destination's name; empty if nobody defines it.
        cluster: Arc<str>,
    },
    /// It goes wherever the caller wanted.
    PassThrough,
    /// It is closed.
    Closed,
    /// Nothing listens on that address and port.
    NoListener,
}

impl Policy {
    /// The chain of a connection: its listener by address, the longest destination prefix, then the server name (exact,
    /// longest suffix, none).
    pub fn decide_connection(&self, connection: &Connection<'_>, draws: &mut dyn Draws) -> ConnectionVerdict<'_> {
        self.walk_chains(connection, draws, |_, _| {}).0
    }

    /// Decides as [`Policy::decide_connection`] does (with the same draws), and tells why.
    pub fn explain_connection(&self, connection: &Connection<'_>, draws: &mut dyn Draws) -> ConnectionExplanation {
        let mut chains = Vec::new();
        let (verdict, taken) = self.walk_chains(connection, draws, |chain, failed| {
            let failed = failed.map(|failed| failed.show(connection));
            chains.push(ChainStep { origin: chain.origin.clone(), failed, taken: false });
        });
        if let Some(step) = taken.and_then(|index| chains.get_mut(index)) {
            step.taken = true;
        }
        let outcome = match verdict {
            ConnectionVerdict::Forward { destination, .. } => {
                ConnectionOutcome::Forward { cluster: self.target_name(&destination.target) }
            }
            ConnectionVerdict::PassThrough => ConnectionOutcome::PassThrough,
            ConnectionVerdict::Closed => ConnectionOutcome::Closed,
            ConnectionVerdict::NoListener => ConnectionOutcome::NoListener,
        };
        let sni = connection.sni.map(str::to_owned);
        ConnectionExplanation { port: connection.port, address: connection.address, sni, chains, outcome }
    }

    /// Asks each chain in written order; `see` is told what came of it.
    fn walk_chains<'p>(
        &'p self,
        connection: &Connection<'_>,
        draws: &mut dyn Draws,
        mut see: impl FnMut(&'p ChainSpec, Option<Failed<'p>>),
    ) -> (ConnectionVerdict<'p>, Option<usize>) {
        let Some(listener) = self.listener(connection.port, connection.address) else {
            return (ConnectionVerdict::NoListener, None);
        };
        let sni = connection.sni.map(str::to_ascii_lowercase);
        let selective = listener.chains.iter().filter(|chain| !chain.is_fallback());
        let longest = selective.filter_map(|chain| chain.prefix(connection.address)).max();
        let mut best: Option<(Rank, usize, &ChainSpec)> = None;
        let mut fallback: Option<(usize, &ChainSpec)> = None;
        for (index, chain) in listener.chains.iter().enumerate() {
            match chain.rank(connection, sni.as_deref()) {
                Ok(rank) => {
                    see(chain, None);
                    if chain.is_fallback() {
                        fallback.get_or_insert((index, chain));
                    } else if Some(rank.0) == longest && best.is_none_or(|(known, ..)| rank > known) {
                        best = Some((rank, index, chain));
                    }
                }
                Err(failed) => see(chain, Some(failed)),
            }
        }
        let Some((index, chain)) = best.map(|(_, index, chain)| (index, chain)).or(fallback) else {
            let verdict = match listener.unknown {
                UnknownConnection::PassThrough => ConnectionVerdict::PassThrough,
                UnknownConnection::Close => ConnectionVerdict::Closed,
            };
            return (verdict, None);
        };
        let picked = match chain.destinations.as_slice() {
            [only] => Some(only),
            several => {
                let total: u64 = several.iter().map(|one| one.weight).sum();
                pick_weighted(several, total, draws.next_u64())
            }
        };
        let verdict = match picked {
            Some(destination) => ConnectionVerdict::Forward { origin: &chain.origin, destination },
            None => ConnectionVerdict::Closed,
        };
        (verdict, Some(index))
    }
}

impl Failed<'_> {
    fn show(&self, connection: &Connection<'_>) -> FailedCondition {
        let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
        match self {
            Failed::Address(chain) => FailedCondition {
                field: "destinationSubnets".into(),
                wanted: format!("`{}`", list(&mut chain.subnets.iter().map(|net| net.to_string()))),
                seen: connection.address.map(|address| address.to_string()),
            },
            Failed::ServerName(chain) => FailedCondition {
                field: "sniHosts".into(),
                wanted: format!("`{}`", list(&mut chain.server_names.iter().map(|name| name.to_string()))),
                seen: connection.sni.map(str::to_owned),
            },
        }
    }
}

impl fmt::Display for ConnectionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionOutcome::Forward { cluster } if cluster.is_empty() => {
                f.write_str("a destination that nobody defines: closed")
            }
            ConnectionOutcome::Forward { cluster } => f.write_str(cluster),
            ConnectionOutcome::PassThrough => f.write_str("passed through: no chain takes it"),
            ConnectionOutcome::Closed => f.write_str("closed: no chain takes it"),
            ConnectionOutcome::NoListener => f.write_str("nothing listens there"),
        }
    }
}

/// `{}` is one line, `{:#}` the whole story.
impl fmt::Display for ConnectionExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.write_str(&folded(&self.story()));
        }
        write!(f, "{}: {}", self.asked(), self.outcome)?;
        match self.chains.iter().find(|chain| chain.taken) {
            Some(taken) => write!(f, " by {}", taken.origin),
            None => Ok(()),
        }
    }
}

impl ConnectionExplanation {
    fn asked(&self) -> String {
        let address = self.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
        let sni = self.sni.as_ref().map(|sni| format!(" for `{sni}`")).unwrap_or_default();
        format!("connection to {address} port {}{sni}", self.port)
    }

    fn story(&self) -> String {
        let mut lines = vec![self.asked()];
        for chain in &self.chains {
            match (&chain.failed, chain.taken) {
                (Some(failed), _) => lines.push(format!("  ✗ {}\n      {failed}", chain.origin)),
                (None, true) => lines.push(format!("  ✓ {}", chain.origin)),
                (None, false) => {
                    lines.push(format!("  · {}\n      holds, but is less specific or later", chain.origin));
                }
            }
        }
        lines.push(format!("  → {}", self.outcome));
        lines.join("\n")
    }
}
