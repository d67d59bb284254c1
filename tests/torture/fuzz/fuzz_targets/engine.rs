//! `targets::engine` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    signalbox_torture::targets::engine(data);
});
