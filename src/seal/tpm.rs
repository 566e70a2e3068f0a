//! Just enough TPM 2.0 to keep one key, spoken directly: no library, no daemon.
//!
//! A key is sealed under the owner hierarchy's storage root key, which a TPM makes anew from its
//! own seed each time. No password and no PCR policy: a firmware update must not cost a device
//! its identity, and an object without a password can not be locked out (`noDA`). So whoever is
//! root on the running machine can unseal it; the disk without the TPM can not. Sessions are not
//! encrypted: who listens on the wires of a discrete TPM while the agent starts hears the key.
//!
//! Layouts are those of the TCG *TPM 2.0 Library* 1.59, Parts 2 and 3.

use core::fmt;
use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

use super::tpm_codes;
use crate::limits::{
    TPM_ANSWER_MAX_BYTES, TPM_ANSWER_WAIT, TPM_AREA_MAX_BYTES, TPM_ATTEMPTS, TPM_PAUSE,
};

/// What a TPM is spoken to over: one write is one command, and its answer is read after it.
pub trait Transport: Read + Write {}

impl<T: Read + Write> Transport for T {}

/// An open TPM.
pub struct Tpm {
    transport: Box<dyn Transport>,
    pause: Duration,
}

/// A key as only the TPM that sealed it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmBlob {
    /// `TPM2B_PRIVATE` without its size: encrypted by the TPM.
    pub private: Vec<u8>,
    /// `TPM2B_PUBLIC` without its size.
    pub public: Vec<u8>,
}

/// Why a TPM did not do what was asked.
#[derive(Debug)]
pub enum TpmError {
    /// It can not be opened: there is none, or it belongs to somebody else.
    Absent {
        /// The device.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// It went away, or did not answer in time.
    Lost {
        /// The command.
        command: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The answer is not one that the specification allows.
    Malformed {
        /// The command.
        command: &'static str,
    },
    /// It answered with an error.
    Refused {
        /// The command.
        command: &'static str,
        /// `TPM_RC`.
        code: u32,
    },
}

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const OWNER: u32 = 0x4000_0001;
const PASSWORD_SESSION: u32 = 0x4000_0009;

const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_SHA256: u16 = 0x000b;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const ROOT_ATTRIBUTES: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, userWithAuth, noDA: data that is given, not made.
const SEALED_ATTRIBUTES: u32 = 0x0000_0452;

const CREATE_PRIMARY: (u32, &str) = (0x131, "TPM2_CreatePrimary");
const CREATE: (u32, &str) = (0x153, "TPM2_Create");
const LOAD: (u32, &str) = (0x157, "TPM2_Load");
const UNSEAL: (u32, &str) = (0x15e, "TPM2_Unseal");
const FLUSH: (u32, &str) = (0x165, "TPM2_FlushContext");

const HEADER_BYTES: usize = 10;

impl Tpm {
    /// Opens a TPM: a device such as `/dev/tpmrm0`, or the socket of a software TPM.
    ///
    /// # Errors
    /// [`TpmError::Absent`].
    pub fn open(path: &Path) -> Result<Self, TpmError> {
        let absent = |cause| TpmError::Absent { path: path.to_owned(), cause };
        let kind = path.metadata().map_err(absent)?.file_type();
        if kind.is_socket() {
            let socket = UnixStream::connect(path).map_err(absent)?;
            socket.set_read_timeout(Some(TPM_ANSWER_WAIT)).map_err(absent)?;
            socket.set_write_timeout(Some(TPM_ANSWER_WAIT)).map_err(absent)?;
            return Ok(Self::over(Box::new(socket), TPM_PAUSE));
        }
        if !kind.is_char_device() {
            return Err(absent(io::Error::other("neither a device nor a socket")));
        }
        let mut pause = TPM_PAUSE;
        for _ in 1..TPM_ATTEMPTS {
            match OpenOptions::new().read(true).write(true).open(path) {
                // A device without the kernel's resource manager has one user at a time.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(pause),
                Ok(device) => return Ok(Self::over(Box::new(device), TPM_PAUSE)),
                Err(cause) => return Err(absent(cause)),
            }
            pause = pause.saturating_mul(2);
        }
        Err(absent(io::ErrorKind::ResourceBusy.into()))
    }

    /// A TPM behind `transport`. When it asks to be asked again, the first pause is this long,
    /// and each further one twice the one before.
    #[must_use]
    pub fn over(transport: Box<dyn Transport>, pause: Duration) -> Self {
        Self { transport, pause }
    }

    /// Seals `key`, so that only this TPM opens it again.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn seal(&mut self, key: &[u8]) -> Result<TpmBlob, TpmError> {
        let root = self.storage_root()?;
        let created = self.create(root, key);
        self.flush(root);
        created
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`TpmError::is_foreign`] when another TPM made it.
    pub fn unseal(&mut self, blob: &TpmBlob) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let root = self.storage_root()?;
        let loaded = self.load(root, blob);
        self.flush(root);
        let object = loaded?;
        let unsealed = self.unseal_object(object);
        self.flush(object);
        unsealed
    }

    /// The ECC storage root key with the template of the TCG's provisioning guidance. The same
    /// template gives the same key for ever; to change a byte of it is to lose what it sealed.
    fn storage_root(&mut self) -> Result<u32, TpmError> {
        let mut public = Buffer::default();
        public.u16(ALG_ECC).u16(ALG_SHA256).u32(ROOT_ATTRIBUTES).sized(&[]);
        public.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL).u16(CURVE_P256).u16(ALG_NULL);
        public.sized(&[0; 32]).sized(&[0; 32]);
        let mut parameters = Buffer::default();
        parameters.sized(Buffer::default().sized(&[]).sized(&[]).bytes());
        parameters.sized(public.bytes()).sized(&[]).u32(0);
        let answer = self.ask(CREATE_PRIMARY, Some(OWNER), parameters.bytes())?;
        Fields::of(&answer, CREATE_PRIMARY).u32()
    }

    fn create(&mut self, root: u32, key: &[u8]) -> Result<TpmBlob, TpmError> {
        let mut public = Buffer::default();
        public.u16(ALG_KEYEDHASH).u16(ALG_SHA256).u32(SEALED_ATTRIBUTES).sized(&[]);
        public.u16(ALG_NULL).sized(&[]);
        let mut parameters = Buffer::default();
        parameters.sized(Buffer::default().sized(&[]).sized(key).bytes());
        parameters.sized(public.bytes()).sized(&[]).u32(0);
        let answer = self.ask(CREATE, Some(root), parameters.bytes())?;
        let mut fields = Fields::of(&answer, CREATE);
        fields.u32()?; // size of the parameters
        Ok(TpmBlob { private: fields.area()?.to_vec(), public: fields.area()?.to_vec() })
    }

    fn load(&mut self, root: u32, blob: &TpmBlob) -> Result<u32, TpmError> {
        let mut parameters = Buffer::default();
        parameters.sized(&blob.private).sized(&blob.public);
        let answer = self.ask(LOAD, Some(root), parameters.bytes())?;
        Fields::of(&answer, LOAD).u32()
    }

    fn unseal_object(&mut self, object: u32) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let answer = self.ask(UNSEAL, Some(object), &[])?;
        let mut fields = Fields::of(&answer, UNSEAL);
        fields.u32()?; // size of the parameters
        Ok(Zeroizing::new(fields.area()?.to_vec()))
    }

    /// A TPM has room for three objects or so, and only the kernel's resource manager tidies up.
    fn flush(&mut self, object: u32) {
        if let Err(error) = self.ask(FLUSH, None, &object.to_be_bytes()) {
            log::debug!("the TPM keeps an object handle={object:#x} error={error}");
        }
    }

    /// Sends a command, again while the TPM asks for that, and gives what follows the answer's
    /// header. With a handle, its empty password goes along.
    fn ask(
        &mut self,
        (code, command): (u32, &'static str),
        handle: Option<u32>,
        parameters: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let mut body = Buffer::default();
        if let Some(handle) = handle {
            // One session: handle, empty nonce, no attributes, empty password.
            body.u32(handle).u32(9).u32(PASSWORD_SESSION).sized(&[]).raw(&[0]).sized(&[]);
        }
        body.raw(parameters);
        let size = u32::try_from(HEADER_BYTES.saturating_add(body.bytes().len()));
        let mut request = Buffer::default();
        request.u16(if handle.is_some() { SESSIONS } else { NO_SESSIONS });
        request.u32(size.unwrap_or(u32::MAX)).u32(code).raw(body.bytes());

        let mut pause = self.pause;
        let mut attempt = 1;
        loop {
            self.transport
                .write_all(request.bytes())
                .map_err(|cause| TpmError::Lost { command, cause })?;
            match self.answer(command) {
                Err(TpmError::Refused { code, .. })
                    if tpm_codes::asks_again(code) && attempt < TPM_ATTEMPTS =>
                {
                    log::debug!("the TPM is busy command={command} code={code:#x}");
                    thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                    attempt += 1;
                }
                answered => return answered,
            }
        }
    }

    /// Reads one answer and gives what follows its header.
    fn answer(&mut self, command: &'static str) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let lost = |cause| TpmError::Lost { command, cause };
        let malformed = TpmError::Malformed { command };
        // In one piece where possible: before Linux 5.0 a device drops what one read leaves.
        let mut answer = Zeroizing::new(vec![0; TPM_ANSWER_MAX_BYTES]);
        let mut filled = 0_usize;
        let (size, code) = loop {
            let room = answer.get_mut(filled..).unwrap_or_default();
            let more = match self.transport.read(room) {
                Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(more) => more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(lost(cause)),
            };
            filled = filled.saturating_add(more).min(answer.len());
            if filled < HEADER_BYTES {
                continue;
            }
            let mut header = Fields { rest: &answer, command };
            let (tag, size, code) = (header.u16()?, header.u32()?, header.u32()?);
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let known = matches!(tag, NO_SESSIONS | SESSIONS);
            if !known || !(HEADER_BYTES..=answer.len()).contains(&size) || size < filled {
                return Err(malformed);
            }
            if size == filled {
                break (size, code);
            }
        };
        if code != 0 {
            return Err(TpmError::Refused { command, code });
        }
        answer.get(HEADER_BYTES..size).map(|body| Zeroizing::new(body.to_vec())).ok_or(malformed)
    }
}

/// Fields of a command, big-endian, wiped when dropped: one of them is the key.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        if self.0.capacity() == 0 {
            // Grown once, so that no copy of a key stays behind.
            self.0.reserve_exact(TPM_ANSWER_MAX_BYTES);
        }
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A `TPM2B`: with its size, which never exceeds [`TPM_AREA_MAX_BYTES`].
    fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        let bytes = bytes.get(..TPM_AREA_MAX_BYTES).unwrap_or(bytes);
        self.u16(u16::try_from(bytes.len()).unwrap_or(0)).raw(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// Fields of an answer.
struct Fields<'a> {
    rest: &'a [u8],
    command: &'static str,
}

impl<'a> Fields<'a> {
    fn of(rest: &'a [u8], (_, command): (u32, &'static str)) -> Self {
        Self { rest, command }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], TpmError> {
        let malformed = TpmError::Malformed { command: self.command };
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, TpmError> {
        let bytes = self.take(2)?;
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u16::from(*byte)))
    }

    fn u32(&mut self) -> Result<u32, TpmError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
    }

    /// A `TPM2B` of at most [`TPM_AREA_MAX_BYTES`].
    fn area(&mut self) -> Result<&'a [u8], TpmError> {
        let bytes = usize::from(self.u16()?);
        if TPM_AREA_MAX_BYTES < bytes {
            return Err(TpmError::Malformed { command: self.command });
        }
        self.take(bytes)
    }
}

impl TpmError {
    /// True when the blob was made by another TPM, or by this one before it was cleared.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if tpm_codes::is_integrity(*code))
    }
}

impl fmt::Debug for Tpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tpm").finish_non_exhaustive()
    }
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { path, .. } => write!(
                f,
                "the TPM at {} can not be opened: look whether its driver is loaded and this is \
                 root, or set \"tpm\" in agent.json to the right device",
                path.display()
            ),
            Self::Lost { command, .. } => {
                write!(f, "the TPM did not answer {command}: try again, or reboot")
            }
            Self::Malformed { command } => write!(
                f,
                "the TPM's answer to {command} makes no sense: it must be a TPM 2.0, and nothing \
                 else may use it at the same time"
            ),
            Self::Refused { command, code } => {
                write!(f, "the TPM answered {command} with ")?;
                match tpm_codes::name(*code) {
                    Some(name) => write!(f, "TPM_RC_{name} ({code:#05x})")?,
                    None => write!(f, "the code {code:#x}")?,
                }
                if tpm_codes::is_authorization(*code) {
                    f.write_str(
                        ": its owner hierarchy has a password, which edgeagent does not know; \
                         remove it, or set \"seal\" in agent.json to another tier",
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for TpmError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Absent { cause, .. } | Self::Lost { cause, .. } => Some(cause),
            Self::Malformed { .. } | Self::Refused { .. } => None,
        }
    }
}
