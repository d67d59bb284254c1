//! The places that a backend's name resolved to, in the order to try them (RFC 3263 §4.3, RFC 2782).

use super::pool::draw;
use crate::settings::PeerAddress;
use crate::tenancy::{PeerRef, Site};
use crate::turn::Turn;
use signalbox_base::{Flow, canonical};
use smallvec::SmallVec;

/// A weight of 0 among others has a very small chance (RFC 2782).
const WEIGHT_OF_NONE: f64 = 0.01;

/// Flows to a backend, first to be tried first: to its address, or to the places of its name. An AoR always draws the same
/// order; without one the seed draws. What failed last comes behind what did not.
pub(crate) fn flows_to(turn: &Turn<'_>, peer: PeerRef, aor: Option<&str>, seed: u64) -> SmallVec<[Flow; 1]> {
    let Some(found) = turn.directory.peer(turn.settings, peer) else { return SmallVec::new() };
    let PeerAddress { transport, literal, .. } = found.backend.address;
    if let Some(literal) = literal {
        let way = turn.listener(found.backend.network, transport);
        return way
            .map(|(listener, socket)| Flow {
                listener,
                transport,
                local: socket.address,
                remote: canonical(literal),
                conn: None,
            })
            .into_iter()
            .collect();
    }
    let seed = if aor.is_some() { 0 } else { seed };
    let sites = turn.directory.sites(peer);
    ordered(sites, aor.unwrap_or_default(), seed)
        .into_iter()
        .filter_map(|at| {
            let target = &sites[at].target;
            let way = turn.listener_towards(found.backend.network, target.transport, target.address);
            way.map(|(listener, socket)| Flow {
                listener,
                transport: target.transport,
                local: socket.address,
                remote: target.address,
                conn: None,
            })
        })
        .collect()
}

/// Indexes in the order to try. Weights draw among hosts of a priority; addresses of one host stay as they were found.
fn ordered(sites: &[Site], aor: &str, seed: u64) -> SmallVec<[usize; 4]> {
    let mut keyed: SmallVec<[(bool, u32, f64, usize); 4]> = sites
        .iter()
        .enumerate()
        .map(|(at, Site { target, failed })| {
            let weight = f64::from(target.weight).max(WEIGHT_OF_NONE);
            (*failed, target.priority, -draw(aor, &target.host, seed).ln() / weight, at)
        })
        .collect();
    keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)).then(a.3.cmp(&b.3)));
    keyed.into_iter().map(|(.., at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ResolvedTarget;
    use signalbox_base::{Text, Transport};

    /// The zone that RFC 2782 shows: a box three times as fast as another, and two to fall back to.
    fn of_the_rfc() -> Vec<Site> {
        [
            ("old-slow-box", 0, 1, 1),
            ("new-fast-box", 0, 3, 2),
            ("sysadmins-box", 1, 0, 3),
            ("server", 1, 0, 4),
        ]
        .into_iter()
        .map(|(host, priority, weight, last)| Site {
            target: ResolvedTarget {
                address: ([172, 30, 79, last], 9).into(),
                transport: Transport::Tcp,
                priority,
                weight,
                host: Text::new(host),
            },
            failed: false,
        })
        .collect()
    }

    fn firsts(sites: &[Site], at: usize) -> usize {
        (0..10_000).filter(|seed| ordered(sites, "", *seed)[0] == at).count()
    }

    #[test]
    fn given_the_zone_of_rfc_2782_then_three_quarters_go_to_the_fast_box_and_the_others_wait() {
        let sites = of_the_rfc();
        let fast = firsts(&sites, 1);
        assert!((7_300..7_700).contains(&fast), "{fast} of 10000");
        assert_eq!(firsts(&sites, 0), 10_000 - fast);
        let third = (0..10_000).filter(|seed| ordered(&sites, "", *seed)[2] == 2).count();
        assert!(
            (4_700..5_300).contains(&third),
            "{third} of 10000: without weights each has the same chance"
        );
    }

    #[test]
    fn given_a_weight_of_0_beside_others_then_its_chance_is_very_small_and_not_none() {
        let mut sites = of_the_rfc();
        sites[0].target.weight = 0;
        let none = firsts(&sites, 0);
        assert!((1..100).contains(&none), "{none} of 10000");
    }

    #[test]
    fn given_an_aor_then_its_order_is_always_the_same_and_what_failed_comes_last() {
        let mut sites = of_the_rfc();
        let before = ordered(&sites, "acme/401@acme.test", 0);
        assert_eq!(before, ordered(&sites, "acme/401@acme.test", 0));
        sites[before[0]].failed = true;
        let after = ordered(&sites, "acme/401@acme.test", 0);
        assert_eq!((after[..3].to_vec(), after[3]), (before[1..].to_vec(), before[0]));
    }

    #[test]
    fn given_a_host_of_two_addresses_then_they_follow_each_other_and_weigh_once() {
        let mut sites = of_the_rfc();
        let mut second = sites[1].clone();
        second.target.address = ([172, 30, 79, 22], 9).into();
        sites.insert(2, second);
        for seed in 0..100 {
            let order = ordered(&sites, "", seed);
            let first = order.iter().position(|at| *at == 1).expect("it is there");
            assert_eq!(order[first + 1], 2, "{order:?}");
        }
        let fast = firsts(&sites, 1);
        assert!((7_300..7_700).contains(&fast), "{fast} of 10000");
    }
}
