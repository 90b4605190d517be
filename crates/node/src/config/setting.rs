//! Every setting of `serve`: one table for flags, environment, files and help.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: `--NAME`, the key in a file, and `SHEAF_NAME` in the environment.
    pub name: &'static str,
    /// What stands for its value in help texts; empty for a switch.
    pub value: &'static str,
    /// The value where nothing is said; empty for none.
    pub default: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// Never shown: not in logs, errors or debug output.
    pub secret: bool,
}

impl Setting {
    const fn new(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Setting { name, value, default, help, secret: false }
    }

    /// Whether the flag may stand without a value.
    pub const fn is_switch(&self) -> bool {
        self.value.is_empty()
    }

    /// The name of its environment variable, such as `SHEAF_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("SHEAF_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The setting of that name.
    pub fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// Every setting with its default, in the order of the help text.
pub const SETTINGS: &[Setting] = &[
    Setting::new("mode", "MODE", "all", "What this process is: all, flight, coordinator or worker"),
    Setting::new(
        "flight-addr",
        "HOST:PORT",
        "localhost:8080",
        "Where to serve Flight and coordinator, port 0 for a free one; in mode worker the server to dial, in mode coordinator localhost:8082 by default",
    ),
    Setting::new(
        "flight-uds",
        "PATH",
        "",
        "Serve Flight on this socket in the file system too, for programs of the same user on this machine",
    ),
    Setting::new(
        "admin-addr",
        "HOST:PORT",
        "127.0.0.1:0",
        "Where to serve metrics, health and profiles",
    ),
    Setting::new(
        "advertise-addr",
        "HOST:PORT",
        "",
        "Address under which others reach this store; without it the bound one in mode flight and on Valkey, else the connection they have",
    ),
    Setting::new(
        "insecure",
        "",
        "false",
        "Allow addresses beyond loopback without encryption and tokens",
    ),
    Setting::new("tls-cert", "FILE", "", "Certificate chain in PEM: the ports speak TLS"),
    Setting::new("tls-key", "FILE", "", "Its private key in PEM"),
    Setting::new(
        "tls-client-ca",
        "FILE",
        "",
        "CA certificates in PEM: clients must have a certificate of one of them",
    ),
    Setting::new(
        "tls-ca",
        "FILE",
        "",
        "CA certificates in PEM, by which servers that this process calls are checked",
    ),
    Setting::new(
        "token-file",
        "FILE",
        "",
        "Tokens that are accepted, one a line: [NAME] TOKEN [expires=TIME] \
         [allow=NAMESPACE:RIGHTS,…] [calls=N] [quota=SIZE]",
    ),
    Setting::new(
        "client-token-file",
        "FILE",
        "",
        "File of the token for servers that this process calls [default: that of --token-file]",
    ),
    Setting::new(
        "coordinator",
        "BACKEND",
        "",
        "Who remembers the work: embedded, valkey, raft or grpc://HOST:PORT, several of a replicated one with commas [default: embedded; none in mode flight]",
    ),
    Setting {
        // A URL may have the password in it.
        secret: true,
        ..Setting::new(
            "valkey-addr",
            "ADDRESS",
            "",
            "Valkey as coordinator: HOST:PORT or valkey://HOST, valkeys:// for TLS, valkey-sentinel://, valkey-cluster:// [default with --coordinator valkey: localhost:6379]",
        )
    },
    Setting::new("valkey-user", "NAME", "", "User of Valkey's ACL"),
    Setting {
        secret: true,
        ..Setting::new(
            "valkey-password",
            "PASSWORD",
            "",
            "Password of Valkey; a flag shows in `ps`: prefer the file or the environment",
        )
    },
    Setting::new("valkey-password-file", "FILE", "", "File with the password of Valkey"),
    Setting::new(
        "valkey-namespace",
        "NAME",
        "",
        "What all keys in Valkey begin with: coordinators of different names know nothing of each other [default: sheaf]",
    ),
    Setting::new(
        "valkey-durability",
        "LEVEL",
        "",
        "When Valkey's answer counts: async (in the primary), replicated (on a replica too) or fsynced (on its disk) [default: async]",
    ),
    Setting::new(
        "valkey-tls-ca",
        "FILE",
        "",
        "CA certificates in PEM by which Valkey is checked [default: those of the machine]",
    ),
    Setting::new("valkey-tls-cert", "FILE", "", "Certificate chain in PEM that is shown to Valkey"),
    Setting::new("valkey-tls-key", "FILE", "", "Its private key in PEM"),
    Setting::new(
        "node-id",
        "N",
        "",
        "With --coordinator raft: the number of this node, which no other ever had",
    ),
    Setting::new(
        "peers",
        "ID=HOST:PORT,…",
        "",
        "With --coordinator raft: every node of the cluster and where the others reach it, this one too; a node with several addresses is named once for each",
    ),
    Setting::new(
        "cluster-id",
        "NAME",
        "",
        "With --coordinator raft: the name of the cluster, which its nodes ask each other for [default: sheaf]",
    ),
    Setting::new(
        "join",
        "",
        "",
        "With --coordinator raft: wait to be added by `sheaf raft add-learner`, and found no cluster",
    ),
    Setting::new(
        "election-timeout",
        "TIME",
        "",
        "With --coordinator raft: how long a leader may be silent before another is elected [default: 1500ms; 3s between distant machines]",
    ),
    Setting::new(
        "heartbeat-interval",
        "TIME",
        "",
        "With --coordinator raft: how often a leader is heard [default: 300ms]",
    ),
    Setting::new(
        "snapshot-distance",
        "N",
        "",
        "With --coordinator raft: entries of the log between two snapshots [default: 10000]",
    ),
    Setting::new("data-dir", "DIR", "./sheaf-data", "Where payloads and coordination are kept"),
    Setting::new(
        "durability",
        "LEVEL",
        "disk",
        "What an acknowledgement survives: disk (a crash of the machine) or memory (nothing)",
    ),
    Setting::new(
        "compression",
        "CODEC",
        "none",
        "How payloads are kept that come uncompressed: none (as they come), lz4 or zstd",
    ),
    Setting::new(
        "memory-limit",
        "SIZE",
        "50%",
        "Most memory for payloads, such as 4GB or 50% of the machine's",
    ),
    Setting::new(
        "max-live-bytes",
        "SIZE",
        "none",
        "Most payload bytes of batches that are not done, such as 100GB; registrations beyond wait",
    ),
    Setting::new(
        "ttl",
        "TIME",
        "1h",
        "How long a payload is kept after its batch is done, or unregistered after its last use",
    ),
    Setting::new(
        "shuffle-disk",
        "SIZE",
        "50%",
        "Most disk for partitions of stages that memory has no room for, such as 100GB or 50% of what is free at the start",
    ),
    Setting::new(
        "shuffle-idle",
        "TIME",
        "24h",
        "How long the partitions of a query are kept that nobody sends or reads",
    ),
    Setting::new(
        "lease",
        "TIME",
        "30s",
        "How long a worker holds a batch without a heartbeat; they go out at a third",
    ),
    Setting::new("grace", "TIME", "30s", "How long a shutdown waits for running work"),
    Setting::new(
        "max-retries",
        "N",
        "3",
        "Retries after the first attempt for batches that name no policy",
    ),
    Setting::new(
        "workers",
        "N",
        "2",
        "Batches worked on at once in this process; 0 in mode all is a server without workers",
    ),
    Setting::new(
        "poll-interval",
        "TIME",
        "5s",
        "How long an idle worker waits before it asks again; new work wakes it at once",
    ),
    Setting::new("queue", "NAME[,NAME…]", "default", "Queues that the workers take from"),
    Setting::new(
        "processor",
        "WHAT",
        "verify",
        "What workers do with a batch: verify checks it, exec:CMD pipes Arrow IPC through a shell command",
    ),
    Setting::new(
        "sink",
        "WHERE",
        "none",
        "Where results go, exactly once: none, parquet:DIR, ipc:DIR, csv:DIR or json:DIR",
    ),
    Setting::new("verbose", "", "false", "Log debug messages too"),
    Setting::new("log-format", "FORMAT", "text", "Log lines for people or programs: text or json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_variables_follow_them() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(!SETTINGS[..index].iter().any(|other| other.name == setting.name));
            assert_eq!(Setting::find(setting.name), Some(setting));
        }
        assert_eq!(Setting::find("data-dir").unwrap().variable(), "SHEAF_DATA_DIR");
    }
}
