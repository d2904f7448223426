//! Services, EndpointSlices and pods to a [`Mesh`], as Istio's registry reads them.
//!
//! - A service `reviews` in `shop` is the host `reviews.shop.svc.cluster.local`; its address is its cluster IP.
//! - A port's protocol is its `appProtocol`, or its name up to the first `-`; the ports of SMTP, DNS, MySQL and MongoDB are
//!   TCP where neither says so.
//! - An endpoint's ports are its slice's, by the name of the service's port. An address that several slices have is one
//!   endpoint, ready if any of them calls it ready.
//! - Its labels are its pod's. Its place is the pod's label `istio-locality` (`region.zone.subzone`), else the pod's
//!   topology labels, else the slice's zone.
//!
//! Left out, with a note: services of type `ExternalName`, and slices of names instead of addresses.

use k8s_openapi::api::core::v1::{Service as KubeService, ServicePort as KubePort};
use k8s_openapi::api::discovery::v1::{Endpoint as KubeEndpoint, EndpointSlice};
use pointsman::mesh::{Endpoint, Health, Labels, Locality, Mesh, MeshConfig, Protocol, Service};
use std::collections::BTreeMap;

/// Pods' labels by namespace and name.
pub type Pods<'a> = BTreeMap<(&'a str, &'a str), &'a Labels>;

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The mesh, and what was left out of it.
pub fn of(services: &[&KubeService], slices: &[&EndpointSlice], pods: &Pods<'_>) -> (Mesh, Vec<String>) {
    let mut notes = Vec::new();
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if slice.address_type == "FQDN" {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            notes.push(format!(
                "EndpointSlice {namespace}/{name}: addressType: `FQDN` has no addresses; it is left out"
            ));
        } else if let Some(service) = service {
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let domain = MeshConfig::default().cluster_domain;
    let mut mesh = Mesh::default();
    for service in services {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let Some(spec) = &service.spec else { continue };
        if spec.type_.as_deref() == Some("ExternalName") {
            notes.push(format!("Service {namespace}/{name}: spec.type: `ExternalName` is an alias; it is left out"));
            continue;
        }
        let mut made = Service::new(format!("{name}.{namespace}.svc.{domain}"), namespace);
        made.address = spec.cluster_ip.clone().filter(|address| !matches!(address.as_str(), "" | "None"));
        for port in spec.ports.iter().flatten() {
            if let Ok(number) = u16::try_from(port.port) {
                made = made.with_port(number, port.name.as_deref().unwrap_or_default(), protocol(port));
            }
        }
        made.endpoints = endpoints(by_service.get(&(namespace, name)).map_or(&[], Vec::as_slice), pods);
        mesh.services.push(made);
    }
    (mesh, notes)
}

/// What a port speaks.
pub fn protocol(port: &KubePort) -> Protocol {
    if port.protocol.as_deref() == Some("UDP") {
        return Protocol::Udp;
    }
    let said = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http,
        Some("kubernetes.io/wss") => return Protocol::Https,
        other => other.or(port.name.as_deref()).unwrap_or_default(),
    };
    let grpc_web = said.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web"));
    let name = if grpc_web { "grpc-web" } else { said.split('-').next().unwrap_or_default() };
    match Protocol::from(name.to_owned()) {
        Protocol::Unspecified if matches!(port.port, 25 | 53 | 3306 | 27017) => Protocol::Tcp,
        protocol => protocol,
    }
}

/// The endpoints of one service's slices, by address.
fn endpoints(slices: &[&EndpointSlice], pods: &Pods<'_>) -> Vec<Endpoint> {
    let mut made: BTreeMap<&str, Endpoint> = BTreeMap::new();
    for slice in slices {
        let ports: Vec<(&str, u16)> = slice.ports.iter().flatten().filter_map(number).collect();
        for endpoint in &slice.endpoints {
            let health = health(endpoint);
            // All addresses of an endpoint are the same one; the first is the one to use.
            let Some(address) = endpoint.addresses.first() else { continue };
            let one = made.entry(address).or_insert_with(|| {
                let labels = pod_of(slice, endpoint).and_then(|pod| pods.get(&pod)).copied();
                let mut one = Endpoint::new(address.as_str(), 0);
                one.locality = locality(labels, endpoint);
                one.labels = labels.cloned().unwrap_or_default();
                one.health = health;
                one
            });
            if health == Health::Ready {
                one.health = health;
            }
            one.ports.extend(ports.iter().map(|(name, port)| ((*name).to_owned(), *port)));
        }
    }
    // Without a port there is nowhere to send anything.
    made.into_values().filter(|endpoint| !endpoint.ports.is_empty()).collect()
}

fn number(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> Option<(&str, u16)> {
    Some((port.name.as_deref().unwrap_or_default(), u16::try_from(port.port?).ok()?))
}

/// Namespace and name of the pod behind an endpoint.
fn pod_of<'a>(slice: &'a EndpointSlice, endpoint: &'a KubeEndpoint) -> Option<(&'a str, &'a str)> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let namespace = target.namespace.as_deref().or(slice.metadata.namespace.as_deref())?;
    Some((namespace, target.name.as_deref()?))
}

fn health(endpoint: &KubeEndpoint) -> Health {
    let Some(conditions) = &endpoint.conditions else { return Health::Ready };
    match (conditions.terminating, conditions.ready) {
        (Some(true), _) => Health::Terminating,
        (_, Some(false)) => Health::NotReady,
        _ => Health::Ready,
    }
}

fn locality(labels: Option<&Labels>, endpoint: &KubeEndpoint) -> Locality {
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
    if let Some(own) = label("istio-locality") {
        return own.replace('.', "/").as_str().into();
    }
    let mut made = Locality::default();
    made.region = label("topology.kubernetes.io/region").unwrap_or_default().to_owned();
    let zone = label("topology.kubernetes.io/zone").or(endpoint.zone.as_deref());
    made.zone = zone.unwrap_or_default().to_owned();
    made
}
