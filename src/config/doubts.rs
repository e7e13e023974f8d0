//! What can be meant as it is written, and more likely is a slip. It is said at the
//! start, in the log, and by `check-config`; nothing is refused for it.

use std::collections::HashSet;

use super::address::{ip, is_loopback};
use super::appliance::{Addressing, ApplianceConfig};
use super::error::{Place, shown};
use super::raw::RawCluster;
use super::{Bootstrap, ClusterConfig};

/// The doubts about one cluster: `raw` is what was written of it.
pub fn of_cluster(raw: &RawCluster, cluster: &ClusterConfig) -> Vec<String> {
    let mut doubts = partners(raw, cluster);
    doubts.extend(loopback(raw, cluster));
    doubts.extend(plain(cluster, &raw.place));
    doubts
}

/// Partners that are none, and none at all.
fn partners(raw: &RawCluster, cluster: &ClusterConfig) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut seen = HashSet::new();
    if let Some(said) = &raw.partner_addrs {
        for (index, text) in said.value.iter().enumerate() {
            let place = said.place.element(index);
            let name = shown(text);
            if *text == cluster.self_addr.as_str() {
                doubts.push(format!(
                    "{place}: \"{name}\": this witness's own self_addr, which is left out; list \
                     the data nodes"
                ));
            } else if !seen.insert(text) {
                doubts.push(format!("{place}: \"{name}\": listed twice; remove it"));
            }
        }
    }
    if cluster.partner_addrs.is_empty() && cluster.bootstrap != Bootstrap::New {
        doubts.push(format!(
            "{}: no data node is listed, so this witness founds a cluster of its own and is \
             nobody's third vote; list the data nodes, such as 10.0.0.1:2222, 10.0.0.2:2222",
            raw.place.key("partner_addrs")
        ));
    }
    doubts
}

/// A member that others cannot reach by the name it has.
fn loopback(raw: &RawCluster, cluster: &ClusterConfig) -> Option<String> {
    let ours = is_loopback(cluster.self_addr.host());
    let place = match ours {
        true => raw.self_addr.as_ref()?.place.clone(),
        false => raw.partner_addrs.as_ref()?.place.clone(),
    };
    let partners = &cluster.partner_addrs;
    let other = partners.iter().find(|p| is_loopback(p.host()) != ours)?;
    let (here, there) = match ours {
        true => (&cluster.self_addr, other),
        false => (other, &cluster.self_addr),
    };
    Some(format!(
        "{place}: \"{here}\": leads every host to itself, and {there} is another host; write the \
         address by which that one reaches it"
    ))
}

/// B5: without a password whoever reaches the port is a member.
fn plain(cluster: &ClusterConfig, place: &Place) -> Option<String> {
    let bind = cluster.bind();
    if cluster.password.is_some() || !cluster.allow_from.is_empty() || is_loopback(&bind.host) {
        return None;
    }
    let hosts: Option<Vec<String>> = cluster
        .partner_addrs
        .iter()
        .map(|partner| ip(partner.host()).map(|ip| ip.to_string()))
        .collect();
    let networks = match hosts.filter(|hosts| !hosts.is_empty()) {
        Some(hosts) => hosts.join(","),
        None => "10.0.1.1,10.0.2.1".into(),
    };
    Some(format!(
        "{}: not given, and all may reach {bind}: anybody who does can read and write the \
         cluster's keys, and add and remove members. Give all nodes a password, or name who may \
         reach it: PG_WITNESS_ALLOW_FROM={networks}, or allow_from in the JSON",
        place.key("password")
    ))
}

/// The doubts about a card: `clusters` with their places.
pub fn of_card<'a>(
    card: &ApplianceConfig,
    clusters: impl Iterator<Item = (&'a ClusterConfig, &'a Place)>,
) -> Vec<String> {
    let addresses = [static_of(&card.ipv4), static_of(&card.ipv6)];
    clusters
        .filter_map(|(cluster, place)| {
            let ours = ip(cluster.self_addr.host())?.to_canonical();
            let written = addresses
                .iter()
                .flatten()
                .find(|address| address.is_ipv4() == ours.is_ipv4())?;
            (*written != ours).then(|| {
                format!(
                    "{}: \"{}\": this machine's address is to be {written}; write the same there \
                     and here, unless the data nodes reach it by a translated address",
                    place.key("self_addr"),
                    cluster.self_addr
                )
            })
        })
        .collect()
}

fn static_of<A: Copy + Into<std::net::IpAddr>>(
    addressing: &Addressing<A>,
) -> Option<std::net::IpAddr> {
    match addressing {
        Addressing::Static { address, .. } => Some((*address).into()),
        _ => None,
    }
}
