//! `Strict-Transport-Security`, RFC 6797 §6.1.

use http::HeaderValue;
use portolan_model::policy::Hsts;

/// The header's value. Costs an allocation: build it with the policy, clone it per response.
pub fn hsts_value(hsts: &Hsts) -> HeaderValue {
    let mut value = format!("max-age={}", hsts.max_age.as_secs());
    if hsts.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if hsts.preload {
        value.push_str("; preload");
    }
    HeaderValue::try_from(value).unwrap_or_else(|_| unreachable!("digits and fixed words"))
}
