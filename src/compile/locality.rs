//! Places: which endpoints are asked first, and how traffic is shared among places.
//!
//! Endpoints stand in groups, one for each locality, in the order of their text. `distribute` gives groups weights;
//! `failoverPriority` and `failover` give them priorities; without either, an outlier detection alone makes nearer places
//! come first (Istio's mesh-wide default). Priorities are packed in the end: 0, 1, 2, ….
//!
//! Where shares or a failover are written, a place is picked by its weight before an endpoint is; the default alone leaves
//! endpoints of one priority side by side, whatever their places.

use crate::mesh::{Labels, Locality, Viewpoint};
use crate::policy::{DestinationEndpoint, LocalityGroup};
use crate::resource::{LoadBalancerSettings, LocalityFailover};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An endpoint before it has its group.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) address: Arc<str>,
    pub(super) port: u16,
    pub(super) labels: Labels,
    pub(super) weight: u32,
    pub(super) ready: bool,
    pub(super) locality: Locality,
}

/// Endpoints in their groups.
pub(super) struct Arranged {
    pub(super) endpoints: Vec<DestinationEndpoint>,
    pub(super) groups: Vec<LocalityGroup>,
    pub(super) weighted: bool,
}

struct Group {
    locality: Locality,
    priority: u32,
    weight: u64,
    members: Vec<Placed>,
}

/// Adds the labels of a place, where there are none of that name.
pub(crate) fn augment(labels: &mut Labels, locality: &Locality) {
    for (name, value) in [
        ("topology.kubernetes.io/region", &locality.region),
        ("topology.kubernetes.io/zone", &locality.zone),
        ("topology.istio.io/subzone", &locality.subzone),
    ] {
        if !value.is_empty() {
            labels.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

pub(super) fn arrange(
    placed: Vec<Placed>,
    settings: Option<&LoadBalancerSettings>,
    outlier: bool,
    viewpoint: &Viewpoint,
) -> Arranged {
    let mut by_locality: BTreeMap<String, Vec<Placed>> = BTreeMap::new();
    for endpoint in placed {
        let locality = &endpoint.locality;
        let text = format!("{}/{}/{}", locality.region, locality.zone, locality.subzone);
        by_locality.entry(text).or_default().push(endpoint);
    }
    let mut groups: Vec<Group> = by_locality
        .into_values()
        .map(|members| Group {
            locality: members.first().map(|first| first.locality.clone()).unwrap_or_default(),
            priority: 0,
            weight: sum(&members),
            members,
        })
        .collect();
    let mut weighted = false;
    let client = &viewpoint.locality;
    let mut labels = viewpoint.labels.clone();
    augment(&mut labels, client);
    let zone_aware = settings.and_then(|settings| settings.zone_aware_lb_setting.as_ref());
    let locality = settings.and_then(|settings| settings.locality_lb_setting.as_ref());
    if let Some(zone) = zone_aware {
        if zone.enabled.unwrap_or(true) {
            groups = prioritize_by_labels(groups, &zone.failover_priority, &labels);
            prioritize_by_region(&mut groups, &zone.failover, client);
        }
    } else if let Some(setting) = locality {
        if setting.enabled.unwrap_or(true) {
            if !setting.distribute.is_empty() {
                weighted = true;
                distribute(&mut groups, setting, client);
            } else if outlier {
                weighted = !setting.failover_priority.is_empty() || !setting.failover.is_empty();
                let by_labels = !setting.failover_priority.is_empty();
                if by_labels {
                    groups = prioritize_by_labels(groups, &setting.failover_priority, &labels);
                }
                if !by_labels || !setting.failover.is_empty() {
                    prioritize_by_place(&mut groups, &setting.failover, client);
                }
            }
        }
    } else if outlier {
        prioritize_by_place(&mut groups, &[], client);
    }
    finish(groups, weighted)
}

fn sum(members: &[Placed]) -> u64 {
    members.iter().map(|member| u64::from(member.weight)).sum::<u64>().min(u64::from(u32::MAX))
}

fn finish(groups: Vec<Group>, weighted: bool) -> Arranged {
    let mut arranged = Arranged { endpoints: Vec::new(), groups: Vec::new(), weighted };
    for (index, group) in groups.into_iter().filter(|group| !group.members.is_empty()).enumerate() {
        arranged.groups.push(LocalityGroup {
            locality: group.locality,
            priority: group.priority,
            weight: group.weight,
        });
        arranged.endpoints.extend(group.members.into_iter().map(|member| DestinationEndpoint {
            key: key(&member.address, member.port),
            address: member.address,
            port: member.port,
            labels: member.labels,
            weight: member.weight,
            ready: member.ready,
            group: index,
        }));
    }
    arranged
}

/// `10.0.0.1:80`, `[::1]:80`.
fn key(address: &str, port: u16) -> Arc<str> {
    if address.contains(':') { format!("[{address}]:{port}").into() } else { format!("{address}:{port}").into() }
}

/// Does a place match `region/zone/subzone` with `*` for any, and nothing for any from there on?
fn matches(rule: &str, place: &Locality) -> bool {
    let mut parts = rule.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (region, zone, subzone) = (part(), part(), part());
    (region == "*" || region == place.region)
        && (zone.is_empty() || zone == "*" || zone == place.zone)
        && (subzone.is_empty() || subzone == "*" || subzone == place.subzone)
}

fn distribute(groups: &mut [Group], setting: &crate::resource::LocalityLoadBalancerSetting, client: &Locality) {
    let Some(entry) = setting.distribute.iter().find(|entry| matches(&entry.from, client)) else { return };
    // The most specific pattern claims first, so that overlaps (which admission refuses) have one outcome.
    let mut shares: Vec<(&String, u64)> = entry.to.iter().map(|(to, share)| (to, u64::from(*share))).collect();
    shares.sort_by(|(a, _), (b, _)| a.matches('*').count().cmp(&b.matches('*').count()).then(a.cmp(b)));
    let mut claimed = vec![false; groups.len()];
    for (pattern, share) in shares {
        let of: Vec<usize> =
            (0..groups.len()).filter(|index| !claimed[*index] && matches(pattern, &groups[*index].locality)).collect();
        let total: u64 = of.iter().map(|index| groups[*index].weight).sum();
        for index in of {
            claimed[index] = true;
            let weight = (groups[index].weight * share).div_ceil(total.max(1));
            if weight > 0 {
                groups[index].weight = weight;
            }
        }
    }
    for (group, claimed) in groups.iter_mut().zip(claimed) {
        if !claimed {
            group.members.clear();
        }
    }
}

/// Same subzone, zone, region, then the rest; of the rest, the region that `failover` names first.
fn prioritize_by_place(groups: &mut [Group], failover: &[LocalityFailover], client: &Locality) {
    let entry = failover.iter().find(|entry| entry.from == client.region);
    for group in groups.iter_mut() {
        let place = &group.locality;
        let raw = if place == client {
            0
        } else if (&place.region, &place.zone) == (&client.region, &client.zone) {
            1
        } else if place.region == client.region {
            2
        } else if entry.is_some_and(|entry| place.is_empty() || place.region != entry.to) {
            4
        } else {
            3
        };
        group.priority = group.priority * 5 + raw;
    }
    pack(groups);
}

fn prioritize_by_region(groups: &mut [Group], failover: &[LocalityFailover], client: &Locality) {
    let entry = failover.iter().find(|entry| entry.from == client.region);
    for group in groups.iter_mut() {
        let region = &group.locality.region;
        let tier = if *region == client.region {
            0
        } else if entry.is_some_and(|entry| entry.to == *region) {
            1
        } else {
            2
        };
        group.priority = group.priority * 3 + tier;
    }
    pack(groups);
}

/// Splits each group by how many of the wanted labels an endpoint has in a row.
fn prioritize_by_labels(groups: Vec<Group>, wanted: &[String], client: &Labels) -> Vec<Group> {
    if wanted.is_empty() || client.is_empty() {
        return groups;
    }
    let mut fixed: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: Vec<&str> = Vec::new();
    for item in wanted {
        let mut parts = item.split('=');
        let (key, value, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if let (Some(value), None) = (value, more) {
            fixed.insert(key, value);
        }
        keys.push(key);
    }
    let network_first = wanted.first().is_some_and(|first| first == "topology.istio.io/network");
    let value = |key: &str| {
        let own = || client.get(key).map(String::as_str).unwrap_or_default();
        fixed.get(key).copied().unwrap_or_else(own)
    };
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let priority = |member: &Placed| {
        let mut remote = 0;
        for (step, key) in (0u32..).zip(&keys) {
            if member.labels.get(*key).map(String::as_str).unwrap_or_default() != value(key) {
                if network_first && step == 0 {
                    remote = count;
                    continue;
                }
                return remote + count - step;
            }
        }
        remote
    };
    let mut split = Vec::new();
    for group in groups {
        let mut parts: BTreeMap<u32, Vec<Placed>> = BTreeMap::new();
        for member in group.members {
            parts.entry(priority(&member)).or_default().push(member);
        }
        split.extend(parts.into_iter().map(|(priority, members)| Group {
            locality: group.locality.clone(),
            priority,
            weight: sum(&members),
            members,
        }));
    }
    pack(&mut split);
    split
}

/// The same order with priorities 0, 1, 2, …
fn pack(groups: &mut [Group]) {
    let mut values: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    values.sort_unstable();
    values.dedup();
    for group in groups {
        let rank = values.iter().position(|value| *value == group.priority).unwrap_or(0);
        group.priority = u32::try_from(rank).unwrap_or(u32::MAX);
    }
}
