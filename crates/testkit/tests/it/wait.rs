//! Waiting for conditions.

use std::cell::Cell;
use std::time::Duration;

use sheaf_testkit::{Error, free_port, wait_for, wait_until, wait_until_async};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_condition_that_holds_is_seen_even_without_time() {
    wait_until(Duration::ZERO, "nothing", || true).unwrap();
}

#[test]
fn a_condition_that_never_holds_times_out_by_name() {
    let error = wait_until(Duration::from_millis(5), "the moon", || false).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }));
    assert_eq!(error.to_string(), "waited 5ms for the moon");
}

#[test]
fn the_value_found_is_given_back() {
    let mut looks = 0;
    let look = || {
        looks += 1;
        (looks == 4).then_some("four")
    };
    assert_eq!(wait_for(LONG, "four looks", look).unwrap(), "four");
}

#[tokio::test]
async fn async_conditions_are_awaited() {
    let looks = Cell::new(0);
    let condition = || {
        looks.set(looks.get() + 1);
        async { looks.get() == 3 }
    };
    wait_until_async(LONG, "three looks", condition).await.unwrap();
    let never = wait_until_async(Duration::from_millis(2), "never", || async { false }).await;
    assert!(never.is_err());
}

#[test]
fn a_reserved_port_is_held_until_it_is_released() {
    let port = free_port().unwrap();
    let addr = port.addr();
    assert!(std::net::TcpListener::bind(addr).is_err(), "{addr} was not held");
    assert_eq!(port.release(), addr);
    std::net::TcpListener::bind(addr).unwrap();
}
