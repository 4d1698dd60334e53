//! URLs for the prelude's `URL`: parsed and changed as the standard has it, each time as
//! a whole, so that nothing is kept on this side.

use url::{Url, quirks};

/// What an object of JavaScript's `URL` shows.
pub(crate) struct Parts(Url);

impl Parts {
    pub(crate) fn parse(url: &str, base: Option<&str>) -> Option<Self> {
        let base = base.map(Url::parse).transpose().ok()?;
        Url::options()
            .base_url(base.as_ref())
            .parse(url)
            .ok()
            .map(Self)
    }

    /// The URL with one part set; `None` where the standard leaves it as it was.
    pub(crate) fn with(href: &str, part: &str, value: &str) -> Option<Self> {
        let mut url = Url::parse(href).ok()?;
        match part {
            "href" => quirks::set_href(&mut url, value).ok()?,
            "protocol" => quirks::set_protocol(&mut url, value).ok()?,
            "username" => quirks::set_username(&mut url, value).ok()?,
            "password" => quirks::set_password(&mut url, value).ok()?,
            "host" => quirks::set_host(&mut url, value).ok()?,
            "hostname" => quirks::set_hostname(&mut url, value).ok()?,
            "port" => quirks::set_port(&mut url, value).ok()?,
            "pathname" => quirks::set_pathname(&mut url, value),
            "search" => quirks::set_search(&mut url, value),
            "hash" => quirks::set_hash(&mut url, value),
            _ => return None,
        }
        Some(Self(url))
    }

    /// Names and values.
    pub(crate) fn all(&self) -> [(&'static str, String); 11] {
        let url = &self.0;
        [
            ("href", quirks::href(url).to_owned()),
            ("origin", quirks::origin(url)),
            ("protocol", quirks::protocol(url).to_owned()),
            ("username", quirks::username(url).to_owned()),
            ("password", quirks::password(url).to_owned()),
            ("host", quirks::host(url).to_owned()),
            ("hostname", quirks::hostname(url).to_owned()),
            ("port", quirks::port(url).to_owned()),
            ("pathname", quirks::pathname(url).to_owned()),
            ("search", quirks::search(url).to_owned()),
            ("hash", quirks::hash(url).to_owned()),
        ]
    }
}

/// A query as names and values in turn.
pub(crate) fn parse_form(query: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .flat_map(|(name, value)| [name.into_owned(), value.into_owned()])
        .collect()
}

/// Names and values in turn as a query.
pub(crate) fn encode_form(list: &[String]) -> String {
    let mut encoder = url::form_urlencoded::Serializer::new(String::new());
    for pair in list.chunks_exact(2) {
        encoder.append_pair(&pair[0], &pair[1]);
    }
    encoder.finish()
}
