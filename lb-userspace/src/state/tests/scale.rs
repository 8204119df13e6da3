//! 2,000 services of 10 backends.

use std::fmt::Write;
use std::time::Instant;

use super::*;

fn large(seed: u32) -> String {
    let mut text = format!(
        "[agent]\ninterfaces = [\"eth0\", \"eth1\"]\nhash_seed = {seed}\n[limits]\nservices = 2000\nbackends = 20000\nring_slots = 8388608\n"
    );
    for service in 0..2_000 {
        let (high, low) = (service / 250, service % 250 + 1);
        write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"203.0.{high}.{low}\"\nport = 80\nbackend = ["
        )
        .expect("to a string");
        for backend in 1..=10 {
            write!(text, "{{ address = \"10.{high}.{low}.{backend}\", port = 8080 }}, ").expect("to a string");
        }
        text += "]\n";
    }
    text
}

#[test]
fn two_thousand_services_compile_quickly_and_one_change_touches_one_ring() {
    let text = large(0);
    let clock = Instant::now();
    let mut world = World::new(&text);
    let parse = clock.elapsed();
    let clock = Instant::now();
    let image = world.compiled().expect("fits");
    let first = clock.elapsed();
    let ops = diff(&world.image, &image);
    let expected = 2_000 * (1 + 10 + 1 + 1 + 1) + 20_000 * 2 - 20_000;
    assert!(ops.len() > expected / 2, "{}", ops.len());
    world.image = image;
    let clock = Instant::now();
    let same = world.compiled().expect("fits");
    let again = clock.elapsed();
    assert_eq!(diff(&world.image, &same), []);
    world.admin.insert(reference("s7", "10.0.8.1:8080"), AdminState::Drain);
    let clock = Instant::now();
    let changed = world.compiled().expect("fits");
    let ops = diff(&world.image, &changed);
    let one = clock.elapsed();
    let kinds: Vec<_> = ops.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 3, "a ring, a service, a backend: {ops:?}");
    println!("parse {parse:?}, first compile {first:?}, unchanged {again:?}, one change with diff {one:?}");
    // "Well under a second" in release; this bound holds for a debug build on a busy machine, too.
    let bound_ms = if cfg!(debug_assertions) { 20_000 } else { 1_000 };
    assert!(
        first.as_millis() < bound_ms && one.as_millis() < bound_ms,
        "{first:?} {one:?}"
    );
}
