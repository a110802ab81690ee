//! WebHDFS, as far as a server of our own speaks it: not a real NameNode.

use crate::exercise;
use crate::name_node::NameNode;
use pegasus_backup::{Target, TargetConfig};

fn target(server: &NameNode) -> Target {
    let config = TargetConfig {
        user: Some("pegasus".to_owned()),
        ..TargetConfig::of_url(&format!("webhdfs://{}/backups", server.address()))
    };
    Target::open("hdfs", &config).unwrap()
}

#[tokio::test]
async fn a_directory_of_hdfs_holds_backups() {
    let server = NameNode::start();
    let target = target(&server);
    exercise::two_backups(&target, 1 << 20, false).await;
    exercise::goes_on(&target, false).await;
    exercise::names_what_is_wrong(&target).await;
    assert!(
        server
            .paths()
            .iter()
            .all(|path| path.starts_with("/backups")),
        "{:?}",
        server.paths()
    );
    assert!(server.said_user("pegasus"));
}

#[tokio::test]
async fn long_listings_come_in_parts() {
    let server = NameNode::start();
    let target = target(&server);
    for number in 0..25 {
        target
            .write_small(&format!("many/{number}"), vec![1])
            .await
            .unwrap();
    }
    assert_eq!(target.list("many").await.unwrap().len(), 25);
    target.remove_all("many").await.unwrap();
    assert_eq!(target.list("many").await.unwrap(), []);
}
