//! What an HTTP answer says: which part of API Gateway spoke, told by status, `x-amzn-errortype` and body.
//!
//! Developer guide, supported-gateway-response-types; Knowledge Center, api-gateway-troubleshoot-403-forbidden. `probe`
//! makes a [`Reply`] of what came, `verdict` asks what it [`says`](Reply::says).

/// An answer, as far as it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// The version of TLS that it came by.
    pub tls: Option<String>,
    /// `x-amzn-errortype`, up to a colon: some services add a URL.
    pub error_type: Option<String>,
    /// The header by which API Gateway marks its answers, and its value.
    pub request_id: Option<(String, String)>,
    /// Where there is one: `x-amzn-waf-action`.
    pub waf_action: Option<String>,
    /// Whether CloudFront says that the answer is an error of its own.
    pub from_cloudfront: bool,
    /// The first 4 KiB of an error's body, as text. The body of a success is nobody's business.
    pub body: String,
}

/// What a [`Reply`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// A status below 400: the call works.
    Works,
    /// `{"message":"Forbidden"}`: no such API here, an API key, WAF, no such stage, a disabled default endpoint.
    Forbidden,
    /// An HTTP API's `Forbidden`: its authorizer's.
    AuthorizerForbids,
    /// Denied by a policy that the text calls resource-based.
    ResourcePolicyDenies,
    /// Denied by a policy that the text calls the VPC endpoint's.
    EndpointPolicyDenies,
    /// Denied by the policies of whoever signed the request.
    IdentityDenies,
    /// Denied by a policy that the text does not name.
    SomePolicyDenies,
    /// WAF, by its own header or by CloudFront's page.
    Waf,
    /// `Missing Authentication Token`: no such method, path or stage; or one that wants a signature.
    NoSuchRoute,
    /// An HTTP API's 404: no route fits.
    NotFound,
    /// Credentials are missing, expired or wrong, or an authorizer says no.
    Credentials,
    /// Another error; the API's own, as far as one can see.
    OtherError,
}

impl Reply {
    pub fn says(&self) -> Says {
        if self.status < 400 && self.waf_action.is_none() {
            return Says::Works;
        }
        let body = self.body.trim();
        let error_type = self.error_type.as_deref().unwrap_or_default();
        let has = |words: &str| body.to_ascii_lowercase().contains(words);
        // CloudFront says so of what an edge-optimised API refuses as well, which API Gateway has marked then.
        let page_of_cloudfront = self.status == 403 && self.from_cloudfront && !self.is_of_api_gateway();
        if self.waf_action.is_some() || page_of_cloudfront {
            return Says::Waf;
        }
        match (self.status, error_type) {
            (401, _) => Says::Credentials,
            (404, _) if self.is_http_api() && is_message(body, "Not Found") => Says::NotFound,
            (403, "MissingAuthenticationTokenException") => Says::NoSuchRoute,
            (403, "AccessDeniedException") => denied(body),
            (403, "ExpiredTokenException" | "InvalidSignatureException" | "UnrecognizedClientException") => {
                Says::Credentials
            }
            (403, _) if is_message(body, "Missing Authentication Token") => Says::NoSuchRoute,
            // A bearer token, where no route is: it is taken for a broken signature.
            (403, _) if has("missing equal-sign) in authorization header") => Says::NoSuchRoute,
            (403, "IncompleteSignatureException") => Says::Credentials,
            (403, _) if self.is_http_api() && is_message(body, "Forbidden") => Says::AuthorizerForbids,
            (403, "ForbiddenException") => Says::Forbidden,
            (403, _) if is_message(body, "Forbidden") => Says::Forbidden,
            (403, _) if has("is not authorized to") => denied(body),
            _ => Says::OtherError,
        }
    }

    /// Whether API Gateway marked it as its own.
    pub fn is_of_api_gateway(&self) -> bool {
        self.request_id.is_some() || self.error_type.is_some()
    }

    fn is_http_api(&self) -> bool {
        self.request_id.as_ref().is_some_and(|(header, _)| header == "apigw-requestid")
    }
}

/// Which policy the text of a denial names (IAM user guide, troubleshoot_access-denied).
fn denied(body: &str) -> Says {
    let body = body.to_ascii_lowercase();
    let names = |policy: &str| body.contains(policy);
    if names("vpc endpoint policy") {
        Says::EndpointPolicyDenies
    } else if names("resource-based policy") {
        Says::ResourcePolicyDenies
    } else if names("identity-based policy") || names("permissions boundary") || names("service control policy") {
        Says::IdentityDenies
    } else if names("not authorized to access this resource") {
        // A Lambda authorizer's own no.
        Says::Credentials
    } else {
        Says::SomePolicyDenies
    }
}

/// Whether a body is a JSON object whose `message` is this.
fn is_message(body: &str, message: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(body).ok();
    value.is_some_and(|value| value.get("message").and_then(serde_json::Value::as_str) == Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, error_type: &str, body: &str) -> Reply {
        let error_type = (!error_type.is_empty()).then(|| error_type.to_owned());
        let request_id = Some(("x-amzn-requestid".to_owned(), "1".to_owned()));
        Reply { status, error_type, request_id, body: body.to_owned(), ..Reply::default() }
    }

    #[test]
    fn every_refusal_in_the_books_is_told_apart() {
        let denied = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:\
                      us-east-1:********1234:a1/prod/GET/x";
        let text = |rest: &str| format!("{{\"Message\":\"{denied}{rest}\"}}");
        for (status, error_type, body, says) in [
            (200, "", String::new(), Says::Works),
            (302, "", String::new(), Says::Works),
            (403, "ForbiddenException", r#"{"message":"Forbidden"}"#.to_owned(), Says::Forbidden),
            (403, "ForbiddenException", String::new(), Says::Forbidden),
            (403, "", r#"{"message": "Forbidden"}"#.to_owned(), Says::Forbidden),
            (403, "AccessDeniedException", text(""), Says::SomePolicyDenies),
            (403, "AccessDeniedException", text(" with an explicit deny"), Says::SomePolicyDenies),
            (403, "", text(" with an explicit deny"), Says::SomePolicyDenies),
            (
                403,
                "AccessDeniedException",
                text(" with an explicit deny in a resource-based policy"),
                Says::ResourcePolicyDenies,
            ),
            (
                403,
                "AccessDeniedException",
                text(" because no VPC endpoint policy allows the execute-api:Invoke action"),
                Says::EndpointPolicyDenies,
            ),
            (
                403,
                "AccessDeniedException",
                text(" because no identity-based policy allows the execute-api:Invoke action"),
                Says::IdentityDenies,
            ),
            (
                403,
                "AccessDeniedException",
                r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#.to_owned(),
                Says::Credentials,
            ),
            (
                403,
                "MissingAuthenticationTokenException",
                r#"{"message":"Missing Authentication Token"}"#.to_owned(),
                Says::NoSuchRoute,
            ),
            (403, "", r#"{"message":"Missing Authentication Token"}"#.to_owned(), Says::NoSuchRoute),
            (
                403,
                "IncompleteSignatureException",
                r#"{"message":"'x' not a valid key=value pair (missing equal-sign) in Authorization header: 'Bearer x'."}"#
                    .to_owned(),
                Says::NoSuchRoute,
            ),
            (403, "InvalidSignatureException", r#"{"message":"no"}"#.to_owned(), Says::Credentials),
            (401, "UnauthorizedException", r#"{"message":"Unauthorized"}"#.to_owned(), Says::Credentials),
            (404, "", r#"{"message":"Not Found"}"#.to_owned(), Says::OtherError),
            (403, "", "<h1>no</h1>".to_owned(), Says::OtherError),
            (500, "InternalServerErrorException", String::new(), Says::OtherError),
        ] {
            assert_eq!(reply(status, error_type, &body).says(), says, "{status} {error_type} {body}");
        }
    }

    #[test]
    fn http_apis_waf_and_cloudfront_have_marks_of_their_own() {
        let http_api = |status, body: &str| Reply {
            request_id: Some(("apigw-requestid".to_owned(), "1".to_owned())),
            ..reply(status, "", body)
        };
        assert_eq!(http_api(404, r#"{"message":"Not Found"}"#).says(), Says::NotFound);
        assert_eq!(http_api(403, r#"{"message":"Forbidden"}"#).says(), Says::AuthorizerForbids);
        let waf = |status| Reply { waf_action: Some("challenge".to_owned()), ..reply(status, "", "") };
        assert_eq!((waf(202).says(), waf(405).says()), (Says::Waf, Says::Waf));
        let page = "<h2>The request could not be satisfied.</h2>".to_owned();
        let blocked = Reply { status: 403, from_cloudfront: true, body: page, ..Reply::default() };
        assert_eq!(blocked.says(), Says::Waf);
        assert_eq!(Reply { status: 502, ..blocked }.says(), Says::OtherError);
        let of_an_edge_api =
            Reply { from_cloudfront: true, ..reply(403, "ForbiddenException", r#"{"message":"Forbidden"}"#) };
        assert_eq!(of_an_edge_api.says(), Says::Forbidden);
    }
}
