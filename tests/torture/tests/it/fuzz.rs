//! Short runs of the fuzz targets: seeded, so that a failure can be run again; `make fuzz` runs the same targets for long.

use crate::say;
use signalbox_actors::Random;
use signalbox_torture::mutate::mutate;
use signalbox_torture::targets::{ALL, Target};
use signalbox_world::seeds;
use std::panic::catch_unwind;

/// Runs a target over its seeds, then over mutations of them.
#[track_caller]
fn run(name: &str) {
    let target: &Target = ALL.iter().find(|target| target.name == name).expect("a target");
    let begin = (target.seeds)();
    let once = |bytes: &[u8], what: &str| {
        catch_unwind(|| (target.run)(bytes)).unwrap_or_else(|_| {
            panic!(
                "fuzz target {name}, {what} (SIGNALBOX_SEED runs that one alone): \"{}\"",
                bytes.escape_ascii()
            )
        })
    };
    let good = begin.iter().enumerate().filter(|(n, bytes)| once(bytes, &format!("seed file {n}"))).count();
    assert!(good * 3 > begin.len(), "{good} of {} seeds get behind the first check", begin.len());
    let rounds = seeds(target.rounds);
    let mut deep = 0;
    for seed in &rounds {
        let mut dice = Random::new(*seed);
        let (bytes, other) = (dice.pick(&begin).clone(), dice.pick(&begin).clone());
        deep += usize::from(once(&mutate(&bytes, &other, &mut dice), &format!("seed {seed}")));
    }
    say(&format!(
        "fuzz: {name}: {} executions from {} seeds, {deep} behind the first check, crashes 0",
        rounds.len() + begin.len(),
        begin.len()
    ));
    assert!(rounds.len() < 100 || deep * 10 > rounds.len(), "{deep} of {}: the mutations miss", rounds.len());
}

#[test]
fn promise_8_fuzz_target_parse_holds() {
    run("parse");
}

#[test]
fn promise_8_fuzz_target_edit_holds() {
    run("edit");
}

#[test]
fn promise_8_fuzz_target_stream_holds() {
    run("stream");
}

#[test]
fn promise_8_fuzz_target_sdp_holds() {
    run("sdp");
}

#[test]
fn promise_8_fuzz_target_uri_holds() {
    run("uri");
}

#[test]
fn promise_8_fuzz_target_digest_holds() {
    run("digest");
}

#[test]
fn promise_8_fuzz_target_engine_holds() {
    run("engine");
}

/// Each target has its test here, and its binary for libFuzzer.
#[test]
fn every_fuzz_target_is_run_here_and_by_make_fuzz() {
    let (here, manifest) = (include_str!("fuzz.rs"), include_str!("../../fuzz/Cargo.toml"));
    for target in ALL {
        assert!(here.contains(&format!("run(\"{}\")", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("fuzz_targets/{}.rs", target.name)), "{}", target.name);
    }
}

#[test]
fn given_the_scripts_with_a_carrier_then_each_gets_behind_the_first_check() {
    let scripts = signalbox_torture::seeds::scripts();
    let with_carrier: Vec<_> = scripts.iter().filter(|script| script.starts_with(b"\x02")).collect();
    assert!(with_carrier.len() >= 3 && with_carrier.iter().all(|s| signalbox_torture::targets::engine(s)));
}
