//! Where credentials come from: what the program is given, and whom it asks.

use serde_json::json;

use super::gateway::{account, private};
use super::program::Program;
use super::server::{Answer, Server, answer, header, name_server};

/// The key that the first request for APIs was signed with, and the token that came with it.
fn signed_with(program: &Program, gateway: &Server) -> (String, String) {
    assert_eq!(program.discovered().len(), 1);
    let asked = &gateway.asked()[0];
    let credential = header(asked, "authorization").split("Credential=").nth(1).unwrap();
    (credential.split('/').next().unwrap().to_owned(), header(asked, "x-amz-security-token").to_owned())
}

fn pair(key: &str, token: &str) -> (String, String) {
    (key.to_owned(), token.to_owned())
}

fn as_json(key: &str) -> Answer {
    let keys = json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": key,
        "SecretAccessKey": "secret", "Token": "token", "Expiration": "2099-01-01T00:00:00Z",
    });
    answer(200, keys.to_string())
}

/// Security Token Service, which gives these keys to whoever asks with what `expected` says.
fn sts(action: &'static str, expected: &'static [&'static str]) -> Server {
    Server::start(move |asked, _| {
        let form = String::from_utf8(asked.body().to_vec()).unwrap();
        if !form.contains(&format!("Action={action}&")) || !expected.iter().all(|part| form.contains(part)) {
            return answer(400, "");
        }
        answer(
            200,
            format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
                 <AccessKeyId>AKIDFROMSTS</AccessKeyId><SecretAccessKey>s3cret-of-sts</SecretAccessKey>\
                 <SessionToken>token-of-sts</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                 <AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>\
                 </AssumedRoleUser></{action}Result></{action}Response>"
            ),
        )
    })
}

/// It would resolve names by itself.
#[test]
fn the_sdk_is_built_without_an_http_client_of_its_own() {
    let lock = include_str!("../../Cargo.lock");
    assert!(lock.contains("name = \"aws-config\"") && !lock.contains("name = \"aws-smithy-http-client\""));
}

#[test]
fn from_the_environment() {
    let gateway = account(private(0..1));
    let program = Program::asking(&gateway.url()).with_keys();
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMENV", ""));
}

#[test]
fn from_a_profile() {
    let gateway = account(private(0..1));
    let program = Program::asking(&gateway.url());
    let file = program.file(
        "credentials",
        "[default]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = secret\n[lists]\naws_access_key_id = \
         AKIDFROMPROFILE\naws_secret_access_key = secret\n",
    );
    let program = program.with("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()).with("AWS_PROFILE", "lists");
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMPROFILE", ""));
}

#[test]
fn from_a_profile_that_assumes_a_role_of_another_account() {
    let (gateway, sts) =
        (account(private(0..1)), sts("AssumeRole", &["RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fr"]));
    let program = Program::asking(&gateway.url()).with("AWS_ENDPOINT_URL_STS", &sts.url());
    let file = program.file(
        "config",
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = secret\n[profile lists]\nrole_arn = \
         arn:aws:iam::111122223333:role/r\nsource_profile = base\n",
    );
    let program = program.with("AWS_CONFIG_FILE", file.to_str().unwrap()).with("AWS_PROFILE", "lists");
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMSTS", "token-of-sts"));
    assert!(header(&sts.asked()[0], "authorization").contains("Credential=AKIDBASE/"));
}

#[test]
fn from_the_web_identity_of_a_pod() {
    let (gateway, sts) = (
        account(private(0..1)),
        sts("AssumeRoleWithWebIdentity", &["WebIdentityToken=from-kubernetes", "RoleArn=arn"]),
    );
    let program = Program::asking(&gateway.url()).with("AWS_ENDPOINT_URL_STS", &sts.url());
    let token = program.file("token", "from-kubernetes");
    let program = program
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap())
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/r");
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMSTS", "token-of-sts"));
}

#[test]
fn from_the_container_with_the_token_of_eks_pod_identity() {
    let gateway = account(private(0..1));
    let agent = Server::start(|asked, _| match (asked.uri().path(), header(asked, "authorization")) {
        ("/v1/credentials", "from-eks") => as_json("AKIDFROMPOD"),
        _ => answer(401, ""),
    });
    let program = Program::asking(&gateway.url());
    let token = program.file("token", "from-eks");
    let program = program
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1/credentials", agent.url()))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap());
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMPOD", "token"));
}

#[test]
fn from_the_instance_with_a_token_first() {
    let gateway = account(private(0..1));
    let imds = Server::start(|asked, _| {
        let path = asked.uri().path().trim_end_matches('/');
        match (asked.method().as_str(), path, header(asked, "x-aws-ec2-metadata-token")) {
            ("PUT", "/latest/api/token", _) => {
                let Answer::Whole(mut token) = answer(200, "session") else { unreachable!() };
                token.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", "21600".parse().unwrap());
                Answer::Whole(token)
            }
            ("GET", "/latest/meta-data/iam/security-credentials", "session") => answer(200, "role"),
            ("GET", "/latest/meta-data/iam/security-credentials/role", "session") => as_json("AKIDFROMIMDS"),
            _ => answer(401, ""),
        }
    });
    let program = Program::asking(&gateway.url())
        .without("AWS_EC2_METADATA_DISABLED")
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url());
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMIMDS", "token"));
}

#[test]
fn those_that_are_refused_are_told_from_those_that_are_not_there() {
    let gateway = account(private(0..1));
    let agent = Server::start(|_, _| answer(400, ""));
    let program =
        Program::asking(&gateway.url()).with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1", agent.url()));
    let error = program.refused();
    assert!(error.contains("no AWS credentials (") && error.contains("StatusCode(400)"), "{error}");
    assert!(gateway.asked().is_empty());
}

#[test]
fn keys_and_tokens_with_a_line_break_are_refused_by_name_and_nothing_is_sent() {
    let gateway = account(private(0..1));
    for (variable, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIDFROMENV\n"),
        ("AWS_SECRET_ACCESS_KEY", "secret-from-env\n"),
        ("AWS_SESSION_TOKEN", "tok\nen"),
    ] {
        let error = Program::asking(&gateway.url()).with_keys().with(variable, value).refused();
        assert!(error.contains(&format!("remove the line break or space from {variable}")), "{error}");
        assert!(!error.contains("panicked") && !error.contains("secret-from-env"), "{error}");
    }
    assert!(gateway.asked().is_empty());
}

#[test]
fn the_containers_name_is_asked_of_the_vpc_upstream() {
    let gateway = account(private(0..1));
    let agent = Server::start(|_, _| as_json("AKIDFROMPOD"));
    let uri = format!("http://agent.lab.example:{}/v1", agent.address.port());
    let program = Program::asking(&gateway.url())
        .with_vpc(&name_server())
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "from-eks");
    assert_eq!(signed_with(&program, &gateway), pair("AKIDFROMPOD", "token"));
    assert_eq!(agent.asked().len(), 1);
}

#[test]
fn a_token_file_that_is_missing_is_named_with_its_variable() {
    let program = Program::asking("http://127.0.0.1:1")
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/r");
    let error = program.refused();
    assert!(error.contains("AWS_WEB_IDENTITY_TOKEN_FILE names /nowhere/token, which cannot be read ("), "{error}");
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let program = Program::asking("http://127.0.0.1:1").with("AWS_PROFILE", "nope");
    let file = program.file("config", "[profile other]\nregion = us-east-1\n");
    for program in [program.with("AWS_CONFIG_FILE", file.to_str().unwrap()), Program::asking("http://127.0.0.1:1")] {
        let error = program.with("AWS_PROFILE", "nope").refused();
        assert!(error.contains("AWS_PROFILE is \"nope\", and no profile of that name gives any"), "{error}");
    }
}

#[test]
fn no_log_shows_a_credential_at_any_level() {
    let (gateway, sts) = (account(private(0..1)), sts("AssumeRoleWithWebIdentity", &[]));
    let program = Program::asking(&gateway.url()).with("AWS_ENDPOINT_URL_STS", &sts.url());
    let token = program.file("token", "s3cret-of-the-pod");
    let program = program
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap())
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/r")
        .configured(
            "[dns]\nlisten = []\n[forward.connect]\nlisten = []\n[admin]\nlisten = \"\"\n[log]\nlevel = \"trace\"",
        );
    let log = program.logs_until("api-gateway: a new list");
    for secret in ["s3cret-of-the-pod", "s3cret-of-sts", "Signature=", "token-of-sts"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
