//! The name servers in `/etc/resolv.conf` (resolv.conf(5)): what `vpc` means where the configuration does not say.

use std::net::IpAddr;

/// The servers of every `nameserver` line, in order.
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A zone index names the interface of a link-local address; such servers are not asked.
        address.parse().ok()
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_count() {
        let text =
            "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\n nameserver\tfd00:ec2::253 # two\nnameserver x\n";
        let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00:ec2::253".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
