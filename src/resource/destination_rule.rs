//! `DestinationRule`: the subsets of a service, and how clients talk to it.

use std::collections::BTreeMap;

use super::TrafficPolicy;
use super::decode::message;
use super::meta::kind;

kind! {
    /// A DestinationRule: subsets and policy for a host.
    pub struct DestinationRule { spec: DestinationRuleSpec }
}

message! {
    /// What a DestinationRule asks for.
    pub struct DestinationRuleSpec {
        /// The namespaces that see it: `.` its own, `*` all; empty is the mesh's default.
        pub export_to: Vec<String> = "exportTo",
        /// The host it is for; may begin with a wildcard.
        pub host: String = required "host",
        /// Named parts of the service.
        pub subsets: Vec<Subset> = "subsets",
        /// Policy for the whole service.
        pub traffic_policy: Option<TrafficPolicy> = "trafficPolicy",
        /// The clients it is for; absent is all.
        pub workload_selector: Option<WorkloadSelector> = "workloadSelector",
    }
}

message! {
    /// A named part of a service: the endpoints that have some labels.
    pub struct Subset {
        /// The labels; none is every endpoint.
        pub labels: BTreeMap<String, String> = "labels",
        /// The name that routes use.
        pub name: String = required "name",
        /// Policy that overrides the service's, field by field at its top level.
        pub traffic_policy: Option<TrafficPolicy> = "trafficPolicy",
    }
}

message! {
    /// Workloads by their labels.
    pub struct WorkloadSelector {
        /// Labels that a workload must have, all of them.
        pub match_labels: BTreeMap<String, String> = "matchLabels",
    }
}
