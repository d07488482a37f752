#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Write as _;
use std::net::TcpListener;

use super::*;

/// Connects a client and waits for its slot.
fn connect(admission: &Arc<Admission>) -> (TcpStream, Permit) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, admission.admit(Arc::new(listener.accept().unwrap().0)).unwrap())
}

#[test]
fn a_connection_with_unread_bytes_is_not_evicted() {
    let admission = Admission::evicting(Capacity { connections: 2, rule: "a test" });
    let connect = || connect(&admission);
    let (mut asking, unread) = connect();
    asking.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    while !unread.slot.has_sent() {}
    let (_silent, idle) = connect();
    let _third = connect();
    assert!(idle.is_evicted() && !unread.is_evicted());
}

#[test]
fn new_clients_get_slots_in_the_order_of_their_arrival() {
    const CLIENTS: usize = 8;
    let admission = Admission::evicting(Capacity { connections: 1, rule: "a test" });
    let (first, admitted) = (connect(&admission), Mutex::new(Vec::new()));
    first.1.enter(Phase::Busy);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (admitted, admission) = (&admitted, &admission);
            scope.spawn(move || {
                let (_client, permit) = connect(admission);
                let at = permit.slot.since();
                // The next client arrives in a later millisecond.
                while admission.millis() == at {}
                admitted.lock().push((number, at));
            });
            while admission.table.lock().queue.len() + admitted.lock().len() <= number {}
        }
        drop(first);
    });
    let mut admitted = admitted.into_inner();
    admitted.sort_unstable();
    assert!(admitted.len() == CLIENTS && admitted.is_sorted_by_key(|(_, at)| *at), "{admitted:?}");
    assert!(admission.table.lock().queue.is_empty());
}

#[test]
fn only_the_connections_of_the_holders_in_question_end() {
    let admission = Admission::new(Capacity { connections: 4, rule: "a test" });
    let connections = [1, 2, 2].map(|account| {
        let (client, permit) = connect(&admission);
        permit.belongs_to(Holder { address: [203, 0, 113, 7].into(), account });
        (client, permit)
    });
    let (_unknown, of_nobody) = connect(&admission);
    let end = || admission.end_those(|holder| holder.account == 2);
    assert_eq!((end(), end()), (2, 0), "an ended connection is ended once");
    let kicked = connections.each_ref().map(|(_, permit)| permit.is_kicked());
    assert_eq!((kicked, of_nobody.is_kicked()), ([false, true, true], false));
}

#[test]
fn a_changed_capacity_holds_for_the_next_client() {
    let admission = Admission::new(Capacity { connections: 1, rule: "a test" });
    let _first = connect(&admission);
    let admit = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        admission.admit(Arc::new(listener.accept().unwrap().0))
    };
    assert!(admit().is_none());
    admission.change_capacity(Capacity { connections: 2, rule: "a test" });
    let second = admit();
    assert!(second.is_some() && admit().is_none());
}
