//! Places for topics that are no use, and what is said of them.

use sheaf_connectors::{FilesSpec, Position, TopicFiles};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::S3Server;

async fn opened(spec: FilesSpec) -> Result<TopicFiles, (Code, String)> {
    let opened = TopicFiles::open(&spec, "group", SystemClock::shared()).await;
    opened.map_err(|error| {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        (error.code(), text)
    })
}

fn login(spec: &str) -> FilesSpec {
    let spec: FilesSpec = spec.parse().unwrap();
    let spec = spec.with_setting("AWS_ACCESS_KEY_ID", "me");
    spec.with_setting("AWS_SECRET_ACCESS_KEY", "secret-of-mine").with_setting("AWS_OTHER", "x")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_no_use_is_told_and_no_secret_with_it() {
    let Some(server) = S3Server::start().unwrap() else { return };
    let place =
        |bucket: &str| format!("s3://{bucket}/x?endpoint={}&region=us-east-1", server.url());
    let (code, text) = opened(login(&place("gone"))).await.unwrap_err();
    assert!(code == Code::NotFound && text.contains("s3://gone/x"), "{code:?} {text}");
    server.create_bucket("lake").unwrap();
    let files = opened(login(&place("lake"))).await.unwrap();
    let position = Position { topic: "orders".to_owned(), partition: 3, next_offset: 8 };
    files.begin(std::slice::from_ref(&position)).await.unwrap();
    let again = opened(login(&place("lake"))).await.unwrap();
    assert_eq!(again.claim(&[("orders".to_owned(), 3)]).await.unwrap(), [position]);
    // The settings' own endpoint does as well.
    let by_setting = login("s3://lake/x").with_setting("AWS_ENDPOINT_URL", server.url());
    opened(by_setting.with_setting("AWS_REGION", "us-east-1")).await.unwrap();

    server.require_login().unwrap();
    let (code, text) = opened(login(&place("lake"))).await.unwrap_err();
    assert!(code == Code::PermissionDenied && !text.contains("secret-of"), "{code:?} {text}");
    drop(server);
    let (code, text) = opened(login(&place_of_nobody())).await.unwrap_err();
    assert!(code == Code::Unavailable && !text.contains("secret-of"), "{code:?} {text}");
}

/// Nobody listens on port 1.
fn place_of_nobody() -> String {
    "s3://lake/x?endpoint=http://127.0.0.1:1&region=us-east-1".to_owned()
}

#[tokio::test]
async fn a_directory_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let spec = format!("parquet:{}", file.display());
    let (_, text) = opened(spec.parse().unwrap()).await.unwrap_err();
    assert!(text.starts_with("create directory") && text.contains("file/_sheaf"), "{text}");
}
