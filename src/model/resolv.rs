//! `/etc/resolv.conf`, read as the C library reads it (resolv.conf(5)).

/// What the file says, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf<'a> {
    /// First words of all `nameserver` lines.
    pub nameservers: Vec<&'a str>,
    /// Words of the last `search` line, or the first one of `domain` when that comes later.
    pub search: Vec<&'a str>,
    /// Words of all `options` lines.
    pub options: Vec<&'a str>,
    /// All other lines but comments and empty ones, such as `sortlist`.
    pub others: Vec<&'a str>,
}

impl<'a> ResolvConf<'a> {
    /// Reads any text: what makes no sense is kept for those who may know more.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let mut read = Self::default();
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match words.next() {
                None => {}
                Some(word) if word.starts_with(['#', ';']) => {}
                Some("nameserver") => read.nameservers.extend(words.next()),
                Some(keyword @ ("search" | "domain")) => {
                    let most = if keyword == "domain" { 1 } else { usize::MAX };
                    let search: Vec<&str> = words.take(most).collect();
                    // A line without a name says nothing.
                    if !search.is_empty() {
                        read.search = search;
                    }
                }
                Some("options") => read.options.extend(words),
                Some(_) => read.others.push(line),
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_domain_counts_and_options_add_up() {
        let search = |text| ResolvConf::read(text).search;
        assert_eq!(search("domain a\nsearch b c\n"), ["b", "c"]);
        assert_eq!(search("search b c\ndomain a x\n"), ["a"]);
        assert_eq!(search("search b\nsearch c\nsearch\ndomain \n#search d\n"), ["c"]);
        assert_eq!(search("searching b\n"), Vec::<&str>::new());
        let text = "; x\noptions ndots:1  rotate\r\nsortlist 10.0.0.0\n\toptions\tedns0\n\
                    nameserver\nnameserver 9.9.9.9 # quad\nlookup file bind\n";
        let read = ResolvConf::read(text);
        assert_eq!(read.options, ["ndots:1", "rotate", "edns0"]);
        assert_eq!(read.nameservers, ["9.9.9.9"]);
        assert_eq!(read.others, ["sortlist 10.0.0.0", "lookup file bind"]);
    }
}
