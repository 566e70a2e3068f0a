//! Certificates, roots and requests, checked against the `openssl` command.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Command, Output},
    };

    use edgeagent::{
        ca::{
            Certificate, CertificateRequest, ChainError, Issued, JoinToken, PinnedRoot, Role,
            RootError, key_fingerprint,
        },
        model::UnixTime,
    };
    use ring::{
        digest::{SHA256, digest},
        rand::SystemRandom,
    };

    const LEAF: &str = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n\
                        keyUsage=digitalSignature,keyEncipherment\n\
                        subjectAltName=DNS:swarm-worker,DNS:node1\n";
    const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n";
    const WORKER: &str = "/O=cluster1/OU=swarm-worker/CN=node1";

    /// A folder in which `openssl` works.
    struct Lab(PathBuf);

    impl Lab {
        fn new(name: &str) -> Self {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ca").join(name);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("leaf.ext"), LEAF).unwrap();
            fs::write(path.join("ca.ext"), CA).unwrap();
            Self(path)
        }

        fn try_openssl(&self, command: &str) -> Output {
            Command::new("openssl").args(command.split(' ')).current_dir(&self.0).output().unwrap()
        }

        fn openssl(&self, command: &str) -> Vec<u8> {
            let output = self.try_openssl(command);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "openssl {command}: {error}");
            output.stdout
        }

        fn text(&self, command: &str) -> String {
            String::from_utf8(self.openssl(command)).unwrap()
        }

        fn read(&self, name: &str) -> Vec<u8> {
            fs::read(self.0.join(name)).unwrap()
        }

        fn write(&self, name: &str, content: &[u8]) {
            fs::write(self.0.join(name), content).unwrap();
        }

        /// A self-signed root `<name>.pem` with `<name>.key`.
        fn root(&self, name: &str, key: &str) -> Vec<u8> {
            self.openssl(&format!(
                "req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.pem -days 30 \
                 -subj /CN=swarm-ca"
            ));
            self.read(&format!("{name}.pem"))
        }

        /// A certificate for `request` by `issuer`.
        fn sign(&self, request: &[u8], issuer: &str, subject: &str, extensions: &str) -> Vec<u8> {
            self.write("request.csr", request);
            self.text(&format!(
                "x509 -req -in request.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial \
                 -subj {subject} -days 10 -extfile {extensions}.ext"
            ))
            .into_bytes()
        }

        fn leaf(&self, request: &CertificateRequest, issuer: &str) -> Vec<u8> {
            self.sign(&request.csr, issuer, WORKER, "leaf")
        }

        /// What `openssl x509` says of a certificate, after the equals sign.
        fn seconds(&self, pem: &[u8], which: &str) -> i64 {
            self.write("dated.pem", pem);
            let text = self.text(&format!("x509 -in dated.pem -noout -{which}"));
            let date = text.trim().split_once('=').unwrap().1.to_owned();
            let seconds = Command::new("date").args(["-u", "+%s", "-d", &date]).output().unwrap();
            String::from_utf8(seconds.stdout).unwrap().trim().parse().unwrap()
        }

        /// DER of the public key in a certificate.
        fn spki(&self, pem: &[u8]) -> Vec<u8> {
            self.write("keyed.pem", pem);
            let public = self.openssl("x509 -in keyed.pem -noout -pubkey");
            self.write("public.pem", &public);
            self.openssl("pkey -pubin -in public.pem -outform DER")
        }
    }

    fn request() -> CertificateRequest {
        CertificateRequest::generate(&SystemRandom::new()).unwrap()
    }

    /// A token whose digest is that of `bundle`.
    fn token(bundle: &[u8]) -> JoinToken {
        let mut number = digest(&SHA256, bundle).as_ref().to_vec();
        let mut field = Vec::new();
        for _ in 0..50 {
            let rest = number.iter_mut().fold(0, |rest, byte| {
                let value = rest << 8 | u32::from(*byte);
                *byte = u8::try_from(value / 36).unwrap();
                value % 36
            });
            field.push(char::from_digit(rest, 36).unwrap());
        }
        let field: String = field.into_iter().rev().collect();
        JoinToken::parse(&format!("SWMTKN-1-{field}-{}", "0".repeat(25))).unwrap()
    }

    fn pinned(bundle: &[u8]) -> PinnedRoot {
        PinnedRoot::pin(bundle.to_vec(), &token(bundle)).unwrap()
    }

    fn refused(bundle: &[u8]) -> RootError {
        PinnedRoot::pin(bundle.to_vec(), &token(bundle)).unwrap_err()
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn openssl_takes_our_request_and_key() {
        let lab = Lab::new("request");
        let request = request();
        lab.write("r.csr", &request.csr);
        let text = lab.text("req -in r.csr -noout -text -verify");
        assert!(text.contains("Subject: \n") || text.contains("Subject:\n"), "{text}");
        assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
        assert!(text.contains("Signature Algorithm: ecdsa-with-SHA256"), "{text}");

        lab.write("key.der", request.key.expose());
        let public = lab.openssl("pkey -inform DER -in key.der -pubout -outform DER");
        let hex: String =
            digest(&SHA256, &public).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key_fingerprint(&request.key).unwrap(), hex);

        let again = CertificateRequest::for_key(&request.key, &SystemRandom::new()).unwrap();
        lab.write("r.csr", &again.csr);
        assert_eq!(lab.openssl("req -in r.csr -noout -pubkey"), {
            lab.openssl("pkey -inform DER -in key.der -pubout")
        });
    }

    #[test]
    fn what_is_read_of_a_certificate_is_what_openssl_reads() {
        for key in [
            "ec -pkeyopt ec_paramgen_curve:P-256",
            "ec -pkeyopt ec_paramgen_curve:P-384",
            "rsa:2048",
        ] {
            let lab = Lab::new(&format!("fields-{}", key.len()));
            let root_pem = lab.root("root", key);
            let root = pinned(&root_pem);
            let request = request();
            let chain = lab.leaf(&request, "root");
            let start = lab.seconds(&chain, "startdate");
            let issued =
                Issued::check(&root, &chain, &request.key, UnixTime::from_seconds(start)).unwrap();
            assert_eq!(issued.node_id.as_str(), "node1");
            assert_eq!(issued.role, Role::Worker);
            assert_eq!(issued.organization, "cluster1");
            assert_eq!(issued.not_before.seconds(), start);
            assert_eq!(issued.not_after.seconds(), lab.seconds(&chain, "enddate"));
            assert_eq!(issued.issuer_spki, lab.spki(&root_pem));
            // SEQUENCE { SET { SEQUENCE { 2.5.4.3, UTF8String } } }
            assert_eq!(
                issued.issuer_subject,
                b"\x30\x13\x31\x11\x30\x0f\x06\x03\x55\x04\x03\x0c\x08swarm-ca"
            );
            let info = issued.tls_info(&root);
            assert_eq!(info.trust_root, root_pem);
            assert_eq!(info.cert_issuer_public_key, issued.issuer_spki);
            assert_eq!(info.cert_issuer_subject, issued.issuer_subject);
        }
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn a_wrong_digest_names_both_and_breaks_nothing_else() {
        let lab = Lab::new("pin");
        let bundle = lab.root("root", "rsa:2048");
        let other = token(b"other");
        let error = PinnedRoot::pin(bundle.clone(), &other).unwrap_err();
        let hex = |bytes: &[u8]| -> String {
            digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(error, RootError::Mismatch { expected: hex(b"other"), presented: hex(&bundle) });
        assert!(error.to_string().contains("nothing secret was sent"));
        // One more byte is another bundle, even where PEM does not care.
        let longer = [&bundle[..], b"\n"].concat();
        assert!(PinnedRoot::pin(longer, &token(&bundle)).is_err());
        assert_eq!(pinned(&bundle).pem(), bundle);
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn bundles_that_swarm_or_this_build_can_not_use_are_refused() {
        let lab = Lab::new("bundles");
        let good = lab.root("root", "rsa:2048");
        assert_eq!(refused(b""), RootError::Empty);
        assert_eq!(refused(b"no certificate"), RootError::Empty);
        assert_eq!(refused(&[&good[..], b"rest"].concat()), RootError::Malformed);
        assert_eq!(refused(&lab.read("root.key")), RootError::Malformed);
        assert_eq!(refused(&good.repeat(200)), RootError::TooLarge);
        let leaf = lab.leaf(&request(), "root");
        assert_eq!(refused(&[&good[..], &leaf].concat()), RootError::NotCa { position: 2 });
        let p521 = lab.root("p521", "ec -pkeyopt ec_paramgen_curve:P-521");
        assert_eq!(refused(&p521), RootError::Key { position: 1 });
        let weak = lab.root("weak", "rsa:1024");
        assert_eq!(refused(&weak), RootError::Key { position: 1 });
        lab.openssl(
            "req -x509 -sha1 -newkey rsa:2048 -nodes -keyout s.key -out sha1.pem -subj /CN=swarm-ca",
        );
        assert_eq!(refused(&lab.read("sha1.pem")), RootError::SignatureAlgorithm { position: 1 });
        let second = lab.root("second", "ec -pkeyopt ec_paramgen_curve:P-256");
        assert_eq!(pinned(&[good, second].concat()).certificates().unwrap().len(), 2);
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn each_way_in_which_a_certificate_is_wrong_is_told() {
        let lab = Lab::new("wrong");
        let ec = "ec -pkeyopt ec_paramgen_curve:P-256";
        let root = pinned(&lab.root("root", ec));
        let foreign = pinned(&lab.root("foreign", ec));
        let request = request();
        let chain = lab.leaf(&request, "root");
        let start = UnixTime::from_seconds(lab.seconds(&chain, "startdate"));
        let end = UnixTime::from_seconds(lab.seconds(&chain, "enddate"));
        let check = |root: &PinnedRoot, chain: &[u8], now: UnixTime| {
            Issued::check(root, chain, &request.key, now)
        };
        assert!(check(&root, &chain, start).is_ok());
        assert!(check(&root, &chain, end).is_ok());

        let early = UnixTime::from_seconds(start.seconds() - 1);
        assert_eq!(
            check(&root, &chain, early),
            Err(ChainError::NotYetValid { not_before: start, now: early })
        );
        assert!(matches!(
            check(&root, &chain, UnixTime::default()),
            Err(ChainError::NotYetValid { .. })
        ));
        let late = UnixTime::from_seconds(end.seconds() + 1);
        assert_eq!(
            check(&root, &chain, late),
            Err(ChainError::Expired { not_after: end, now: late })
        );
        assert_eq!(check(&foreign, &chain, start), Err(ChainError::ForeignRoot));
        let other = super::tests::request();
        assert_eq!(Issued::check(&root, &chain, &other.key, start), Err(ChainError::KeyMismatch));
        assert_eq!(check(&root, b"", start), Err(ChainError::Malformed));
        assert_eq!(check(&root, &chain[..chain.len() / 2], start), Err(ChainError::Malformed));
        // A certificate that did not sign the one before it. What is made from here on may be
        // a second younger than `start`.
        let stray = lab.read("foreign.pem");
        let worker = lab.leaf(&other, "root");
        let with_worker = [&chain[..], &worker].concat();
        assert_eq!(check(&root, &with_worker, end), Err(ChainError::NoChain));
        assert!(check(&foreign, &[&chain[..], &stray].concat(), start).is_err());

        let nameless = lab.sign(&request.csr, "root", "/O=cluster1/OU=swarm-worker", "leaf");
        assert_eq!(check(&root, &nameless, end), Err(ChainError::NoIdentity));
        let roleless = lab.sign(&request.csr, "root", "/O=cluster1/CN=node1", "leaf");
        assert_eq!(check(&root, &roleless, end), Err(ChainError::NoIdentity));
        let manager =
            lab.sign(&request.csr, "root", "/O=cluster1/OU=swarm-manager/CN=node1", "leaf");
        assert_eq!(check(&root, &manager, end).unwrap().role, Role::Manager);
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn a_worker_can_not_sign_for_another() {
        let lab = Lab::new("worker-signs");
        let root = pinned(&lab.root("root", "ec -pkeyopt ec_paramgen_curve:P-256"));
        let worker = request();
        let worker_chain = lab.leaf(&worker, "root");
        lab.write("worker.pem", &worker_chain);
        lab.write("worker.der", worker.key.expose());
        lab.openssl("pkey -inform DER -in worker.der -out worker.key");
        let victim = request();
        let forged = [lab.leaf(&victim, "worker"), worker_chain].concat();
        let now = UnixTime::from_seconds(lab.seconds(&forged, "startdate"));
        assert_eq!(Issued::check(&root, &forged, &victim.key, now), Err(ChainError::NoChain));
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn a_root_rotation_goes_through_the_cross_signed_certificate() {
        let lab = Lab::new("rotation");
        let ec = "ec -pkeyopt ec_paramgen_curve:P-256";
        let old = pinned(&lab.root("old", "rsa:2048"));
        let new_pem = lab.root("new", ec);
        lab.openssl("req -new -key new.key -subj /CN=swarm-ca -out new.csr");
        let cross = lab.sign(&lab.read("new.csr"), "old", "/CN=swarm-ca", "ca");
        let request = request();
        let chain = [lab.leaf(&request, "new"), cross].concat();
        let now = UnixTime::from_seconds(lab.seconds(&chain, "startdate"));

        let during = Issued::check(&old, &chain, &request.key, now).unwrap();
        assert_eq!(during.issuer_spki, lab.spki(&new_pem));

        let next = old.successor(&new_pem, &chain, now).unwrap();
        assert_eq!(next.pem(), new_pem);
        let after = Issued::check(&next, &chain, &request.key, now).unwrap();
        assert_eq!(after.issuer_spki, during.issuer_spki);
        assert_eq!(old.successor(old.pem(), &chain, now).as_ref(), Ok(&old));

        let stranger = lab.root("stranger", ec);
        assert_eq!(
            old.successor(&stranger, &chain, now),
            Err(RootError::NotOurs(ChainError::ForeignRoot))
        );
        assert_eq!(old.successor(b"", &chain, now), Err(RootError::Empty));

        // Fetched from whoever answered: each root of the bundle has to prove itself.
        assert_eq!(old.recovered(&new_pem, &chain, now).unwrap().pem(), new_pem);
        assert_eq!(old.recovered(old.pem(), &chain, now).as_ref(), Ok(&old));
        for bundle in [
            stranger.clone(),
            [new_pem.clone(), stranger.clone()].concat(),
            [stranger, new_pem].concat(),
        ] {
            assert_eq!(
                old.recovered(&bundle, &chain, now),
                Err(RootError::NotOurs(ChainError::ForeignRoot))
            );
        }
        // A certificate that was slept through its end still says who signed it.
        let stored = Issued::stored(&old, &chain, &request.key).unwrap();
        assert_eq!(stored, during);
        let late = UnixTime::from_seconds(stored.not_after.seconds() + 1);
        assert!(matches!(
            Issued::check(&old, &chain, &request.key, late),
            Err(ChainError::Expired { .. })
        ));
        // A renewed one that is not valid yet shows that the clock is behind.
        let epoch = UnixTime::default();
        assert_eq!(Issued::renewed(&old, &chain, &request.key, epoch), Ok(stored));
        assert!(matches!(
            Issued::renewed(&old, &chain, &request.key, late),
            Err(ChainError::Expired { .. })
        ));
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn a_root_that_ran_out_ends_its_certificates() {
        let lab = Lab::new("root-expired");
        lab.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 1 \
             -subj /CN=swarm-ca",
        );
        let root = pinned(&lab.read("root.pem"));
        let request = request();
        let chain = lab.leaf(&request, "root");
        let end = lab.seconds(&lab.read("root.pem"), "enddate");
        let check =
            |seconds| Issued::check(&root, &chain, &request.key, UnixTime::from_seconds(seconds));
        assert!(check(end).is_ok());
        assert!(matches!(check(end + 1), Err(ChainError::Expired { .. })));
    }

    #[test]
    #[cfg_attr(not(program = "openssl"), ignore = "needs the program openssl")]
    fn no_truncation_or_flip_of_a_certificate_is_read_beyond_its_end() {
        let lab = Lab::new("flips");
        lab.root("root", "ec -pkeyopt ec_paramgen_curve:P-256");
        let der = lab.openssl("x509 -in root.pem -outform DER");
        assert!(Certificate::read(&der).unwrap().is_ca);
        for at in 0..der.len() {
            assert!(Certificate::read(&der[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = der.clone();
                flipped[at] ^= 1 << bit;
                // Any answer is allowed, but a panic.
                drop(Certificate::read(&flipped));
            }
        }
    }
}
