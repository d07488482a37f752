//! A network namespace with addresses beyond loopback, which has no limits of its own.
//!
//! A test that needs such addresses runs twice: first as any test, which starts this test program again in a namespace
//! of its own, and then there, as the real test. It needs `unshare` (util-linux), `ip` (iproute2) and the right to make
//! a user namespace. Where one of them is missing the test fails; it is never skipped.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::any::type_name;
use std::env;
use std::io::{self, Write};
use std::process::Command;

/// Set in the process that is inside.
const INSIDE: &str = "LAVAPROXY_TEST_NAMESPACE";
/// In the namespace a process can connect from each IPv4 address of 203.0.113.0/24, and from these IPv6 addresses:
/// three of one /64 and one of another.
const SET_UP: &str = "\
    ip link set lo up
    ip address add 203.0.113.1/24 dev lo
    for address in 2001:db8:1::1 2001:db8:1::2 2001:db8:1::ffff:3 2001:db8:2::1; do
        ip address add $address/128 dev lo nodad
    done
    exec \"$@\"";
pub const HINT: &str = "no network namespace could be made: install util-linux and iproute2, and allow user \
    namespaces (a container: --privileged; Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)";

/// This program as a command that runs in a new namespace.
pub fn this_program() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--", "sh", "-ec", SET_UP, "sh"]).arg(env::current_exe().unwrap());
    command.env(INSIDE, "1");
    command
}

/// Runs a test in a namespace of its own. To be called with a closure in the test function itself, whose name says
/// which test is to run there.
pub fn run<T: FnOnce()>(test: T) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let (_, name) = type_name::<T>().split_once("::").unwrap();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let mut command = this_program();
    let output = command.args(["--exact", name, "--nocapture", "--test-threads=1"]).output().expect(HINT);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr.clone()].concat()).into_owned();
    assert!(said.contains("running 1 test"), "{HINT}\n{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    // It may say that something was skipped.
    let _ = io::stderr().write_all(&output.stderr);
}
