//! `config/iam/discover-policy.json`: what it allows, and nothing more.

use serde_json::Value;
use sidegate::policy::Partition;

fn policy() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/iam/discover-policy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_policy_allows_one_action_and_nothing_else() {
    let policy = policy();
    assert_eq!(policy["Version"], "2012-10-17");
    let [statement] = policy["Statement"].as_array().unwrap().as_slice() else { panic!("one statement") };
    let mut keys: Vec<_> = statement.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["Action", "Effect", "Resource", "Sid"]);
    assert_eq!(statement["Effect"], "Allow");
    assert_eq!(statement["Action"], "apigateway:GET");
}

/// API Gateway guide, "Amazon Resource Name (ARN) format": there is no account in it.
#[test]
fn its_resource_is_the_list_of_rest_apis_without_an_account() {
    let policy = policy();
    let arn: Vec<_> = policy["Statement"][0]["Resource"].as_str().unwrap().split(':').collect();
    let ["arn", partition, "apigateway", region, "", "/restapis"] = arn.as_slice() else { panic!("{arn:?}") };
    assert!(Partition::all().iter().any(|known| known.name == *partition), "{partition}");
    assert!(*region == "*" || Partition::of(region).is_some_and(|known| known.name == *partition), "{region}");
}
