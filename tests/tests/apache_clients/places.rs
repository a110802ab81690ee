//! Requests that reach another core than the primary's.

use crate::site::{Client, site};
use e2e::apache::{Connection, Form, To};
use pegasus_thrift::data::{MultiRemoveRequest, RawKey, Request, UpdateRequest, UpdateResponse};
use pegasus_thrift::storage;

#[test]
fn requests_to_the_wrong_place_are_told_so_in_names_that_clients_know() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let key = RawKey {
            hash_key: b"h",
            sort_key: b"s",
        };
        let raw = key.to_vec();
        let to = client.table.to(&key);
        let index = usize::try_from(to.partition_index).unwrap();
        let mut primary = client.table.connect(&to, form).unwrap();
        let get = Request::Get(&raw);
        let status = |connection: &mut Connection, to, request: &Request<'_>| {
            connection.ask(to, request).unwrap().status
        };
        let no_table = To { app_id: 999, ..to };
        assert_eq!(status(&mut primary, no_table, &get), "ERR_OBJECT_NOT_FOUND");
        for partition_hash in [0, u64::try_from(index).unwrap(), 12345] {
            let to = To {
                partition_hash,
                ..to
            };
            assert_eq!(status(&mut primary, to, &get), "ERR_OK");
        }
        let secondary = client.table.secondaries[index][0];
        let mut secondary = Connection::open(secondary, form).unwrap();
        assert_eq!(status(&mut secondary, to, &get), "ERR_INVALID_STATE");
        // Nonsense is not told before the client has found the primary.
        let nonsense = Request::MultiRemove(MultiRemoveRequest::default());
        assert_eq!(status(&mut secondary, to, &nonsense), "ERR_INVALID_STATE");
        if form != Form::ThftV0 {
            // The primary's answer is the one that counts: this one stays silent, and the next answer is the next one's.
            let backup = To {
                is_backup: true,
                ..to
            };
            secondary.send(backup, &get).unwrap();
            assert_eq!(status(&mut secondary, to, &get), "ERR_INVALID_STATE");
            assert_eq!(status(&mut primary, backup, &get), "ERR_OK");
        }
        let value = vec![0; 1 << 20];
        let large = Request::Put(UpdateRequest {
            key: &raw,
            value: &value,
            ..UpdateRequest::default()
        });
        assert_eq!(status(&mut primary, to, &large), "ERR_INVALID_DATA");
        assert_eq!(
            status(&mut primary, no_table, &large),
            "ERR_OBJECT_NOT_FOUND"
        );
        assert_eq!(status(&mut primary, to, &get), "ERR_OK");
    }
}

#[test]
fn a_write_that_reaches_another_core_of_the_node_is_handed_over() {
    let site = site();
    let client = Client::new(&site, Form::ThftV1);
    for index in 0..16_u8 {
        let hash_key = [index];
        let key = RawKey {
            hash_key: &hash_key,
            sort_key: b"",
        };
        let to = client.table.to(&key);
        let primary = client.table.primaries[usize::try_from(to.partition_index).unwrap()];
        let same_node = site
            .ports
            .chunks(2)
            .find(|ports| ports.contains(&primary))
            .unwrap();
        let raw = key.to_vec();
        for port in same_node {
            let put = Request::Put(UpdateRequest {
                key: &raw,
                value: &hash_key,
                ..UpdateRequest::default()
            });
            let answer = Connection::open(*port, client.form)
                .unwrap()
                .ask(to, &put)
                .unwrap();
            assert_eq!(
                answer.read::<UpdateResponse<'_>>().unwrap().error,
                storage::OK
            );
        }
    }
}
