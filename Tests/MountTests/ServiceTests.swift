import Glibc
import TestServers
import Testing

extension MountTests {
    /// The real daemon as a service manager runs it, and the unit files.
    @Suite("A service", .serialized)
    struct Service {
        static let system = "packaging/systemd/cloudmount.service"
        static let user = "packaging/systemd/cloudmount-user.service"

        /// What the manager hears, and what the journal would get. `ABSTRACT`: the kind of its socket.
        private static let script = #"""
            import os, re, signal, socket, subprocess, time
            F, B = os.environ["FOLDER"], os.environ["BINARY"]
            os.chdir(F); os.mkdir("src"); os.mkdir("good"); os.mkdir("bad")
            open("mounts.yaml", "w").write(f"""version: 1
            cache: {{ directory: {F}/cache, keep_free: 16MiB }}
            control: {{ socket: {F}/socket }}
            mounts:
              - {{ name: good, path: {F}/good, provider: directory, bucket: {F}/src, cache: {{ extends: default, write: back, write_delay: 60s }} }}
              - {{ name: bad, path: {F}/bad, provider: directory, bucket: {F}/none }}
            """)
            name = f"cloudmount-{os.getpid()}" if os.environ["ABSTRACT"] == "1" else f"{F}/notify"
            manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            manager.bind("\0" + name if os.environ["ABSTRACT"] == "1" else name)
            manager.settimeout(60)
            def until(pattern):
                while True:
                    message = manager.recv(4096).decode()
                    assert "\n\n" not in message and not message.endswith("\n"), message
                    if re.search(pattern, message): return message
            log = open("log", "wb")
            stream = os.fstat(log.fileno())
            environment = dict(os.environ, HOME=F, NOTIFY_SOCKET="@" + name if os.environ["ABSTRACT"] == "1" else name,
                               WATCHDOG_USEC="4000000", JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
            environment.pop("WATCHDOG_PID", None)
            limits = os.environ["LIMITS"].split()
            daemon = subprocess.Popen(limits + [B, "mount", "-f", "mounts.yaml"], env=environment, stderr=log, start_new_session=True)
            try:
                until("^READY=1$")
                assert f" {F}/good " in open("/proc/self/mountinfo").read()
                assert "failed: " in open("log").read() or "failed" in until("^STATUS=.*bad: ")
                until("^WATCHDOG=1$")
                for fd in os.listdir(f"/proc/{daemon.pid}/fd"):
                    if not os.readlink(f"/proc/{daemon.pid}/fd/{fd}").startswith("socket:"): continue
                    flags = re.search(r"flags:\s*(\d+)", open(f"/proc/{daemon.pid}/fdinfo/{fd}").read())[1]
                    assert int(flags, 8) & os.O_CLOEXEC, fd
                before = time.monotonic_ns() // 1000
                subprocess.run([B, "reload", "-f", "mounts.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                stamp = int(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", until("^RELOADING=1"))[1])
                assert before <= stamp <= time.monotonic_ns() // 1000
                until("^READY=1$")
                with open("good/late", "w") as file: file.write("stored at the end")
                daemon.send_signal(signal.SIGTERM)
                assert re.fullmatch(r"STOPPING=1\nEXTEND_TIMEOUT_USEC=[1-9]\d+", until("^STOPPING=1"))
                assert daemon.wait(60) == 0
            finally:
                if daemon.poll() is None: daemon.kill(); daemon.wait()
                subprocess.run(["umount", "-l", "good"], stderr=subprocess.DEVNULL)
            assert open("src/late").read() == "stored at the end"
            lines = open("log").read().splitlines()
            assert all(re.match("<[0-7]>[^<]", line) for line in lines), lines
            def told(pattern): assert any(re.search(pattern, line) for line in lines), (pattern, lines)
            told("^<5>good: .* is mounted at ")
            told("^<3>mount 'bad' failed: .*; trying again in ")
            told("^<5>stopping: ")
            told("^<5>good: drained: 1 of 1 files stored")
            told("^<5>good: unmounted$")
            """#

        private func run(abstract: Bool, limits: String = "") async throws {
            let folder = try TemporaryFolder("service")
            _ = try await ChildProcess.output(
                of: ["python3", "-c", Self.script],
                environment: [
                    "FOLDER": folder.path, "BINARY": MountFixture.binary, "ABSTRACT": abstract ? "1" : "0",
                    "LIMITS": limits,
                ], seconds: 180)
        }

        @Test(
            "A manager hears of start, watchdog, reload and end, and the journal gets priorities",
            arguments: [true, false])
        func notify(abstract: Bool) async throws { try await run(abstract: abstract) }

        @Test("The daemon serves with the capabilities that its system unit leaves it")
        func capabilities() async throws {
            try #require(geteuid() == 0, "only root has capabilities to give up")
            let unit = readFile("\(Tools.packageRoot)/\(Self.system)")
            let line = unit.split(separator: "\n").first { $0.hasPrefix("CapabilityBoundingSet=") }
            let names = try #require(line).dropFirst("CapabilityBoundingSet=".count).split(separator: " ")
            let set = names.map { ",+" + $0.dropFirst("CAP_".count).lowercased() }.joined()
            try await run(abstract: true, limits: "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all\(set) --")
        }

        @Test("systemd finds nothing wrong with the units, and the system's is no more exposed than mounting demands")
        func units() async throws {
            let folder = try TemporaryFolder("units")
            for unit in [Self.system, Self.user] {
                let text = readFile("\(Tools.packageRoot)/\(unit)")
                #expect(text.contains("/usr/bin/cloudmount"))
                let copy = "\(folder.path)/\(unit.split(separator: "/").last ?? "")"
                try writeFile(copy, text.replacing("/usr/bin/cloudmount", with: MountFixture.binary), mode: 0o644)
                let kind = unit == Self.user ? ["--user"] : []
                let result = try await ChildProcess.run(
                    ["systemd-analyze", "verify", "--man=no"] + kind + [copy],
                    environment: ["XDG_RUNTIME_DIR": folder.path, "SYSTEMD_LOG_LEVEL": "notice"], seconds: 60)
                #expect(result.succeeded && result.output.isEmpty && result.errors.isEmpty, "\(unit): \(result)")
            }
            let security = try await ChildProcess.run(
                [
                    "systemd-analyze", "security", "--offline=yes", "--threshold=50", "--no-pager",
                    "\(folder.path)/cloudmount.service",
                ], seconds: 60)
            #expect(security.succeeded, "\(security)")
        }
    }
}
