//! What kind of name is asked about: an API's own, a custom domain's target, the apex, or none of API Gateway's.
//!
//! `examine` needs the apex to see whether private DNS is on, `verdict` and `advice` the kind. It goes by the form of the
//! name alone, so that names of regions without a configured endpoint are known too.

use crate::policy::{ApiId, HostName};

/// The form of a name in an `execute-api` zone (developer guide, how-to-call-api, apigateway-regional-api-custom-domain-create,
/// apigateway-private-api-test-invoke-url).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `<id>.execute-api.<region>.<suffix>`.
    Api,
    /// `<id>-vpce-....execute-api...`, which public DNS knows as well.
    EndpointAlias,
    /// `d-....execute-api...`, what a regional custom domain is an alias of.
    DomainTarget,
    /// The zone itself.
    Apex,
    /// Deeper down in the zone, or a label that is none of these.
    Other,
}

/// A name in an `execute-api` zone, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneName {
    pub form: Form,
    /// `execute-api.<region>.<suffix>`.
    pub apex: HostName,
}

impl ZoneName {
    /// `None` if the name is in no `execute-api` zone. Names of endpoints, which have `vpce` in theirs, are in none.
    pub fn of(name: &HostName) -> Option<Self> {
        let text = name.to_string();
        let labels: Vec<&str> = text.split('.').collect();
        let at = labels.iter().position(|label| *label == "execute-api")?;
        // A region and a suffix of two labels follow at least.
        if labels.len() < at + 4 || labels.get(at + 2) == Some(&"vpce") {
            return None;
        }
        let apex = labels[at..].join(".").parse().ok()?;
        let form = match labels[..at] {
            [] => Form::Apex,
            [label] if label.contains("-vpce-") => Form::EndpointAlias,
            [label] if label.starts_with("d-") => Form::DomainTarget,
            [label] if ApiId::fits(label.as_bytes()) => Form::Api,
            _ => Form::Other,
        };
        Some(Self { form, apex })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_name_is_known_with_its_apex() {
        let of = |name: &str| ZoneName::of(&name.parse().unwrap());
        for (name, form) in [
            ("a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", Form::Api),
            ("A1B2C3D4E5.Execute-API.us-east-1.amazonaws.com.", Form::Api),
            ("a1-vpce-0123456789abcdef0.execute-api.us-east-1.amazonaws.com", Form::EndpointAlias),
            ("d-abcdef1234.execute-api.us-east-1.amazonaws.com", Form::DomainTarget),
            ("execute-api.us-east-1.amazonaws.com", Form::Apex),
            ("x.a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", Form::Other),
        ] {
            let apex = "execute-api.us-east-1.amazonaws.com".parse().unwrap();
            assert_eq!(of(name), Some(ZoneName { form, apex }), "{name}");
        }
        let china = of("a1.execute-api.cn-north-1.amazonaws.com.cn").unwrap();
        assert_eq!(china.apex.to_string(), "execute-api.cn-north-1.amazonaws.com.cn");
        for other in [
            "api.example.com",
            "execute-api.example",
            "vpce-0123456789abcdef0-a.execute-api.us-east-1.vpce.amazonaws.com",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
