import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import S3Provider

/// A folder that is removed again.
final class Folder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/cloudmount-s3-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw VFSError(.io, "no folder") }
        path = String(cString: made)
    }

    deinit {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                unlink("\(path)/\(name)")
            }
            closedir(folder)
        }
        rmdir(path)
    }

    @discardableResult func write(_ name: String, _ text: String, mode: mode_t = 0o600) -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, mode)
        let bytes = Array(text.utf8)
        _ = Glibc.write(descriptor, bytes, bytes.count)
        close(descriptor)
        return file
    }
}

@Suite("Credentials")
struct CredentialTests {
    private func environment(_ variables: [String: String]) -> S3Environment {
        S3Environment(variable: { variables[$0] })
    }

    private func load(
        _ values: [String: OptionValue], _ variables: [String: String] = [:]
    ) async throws -> S3CredentialAnswer {
        try await S3CredentialChain.source(OptionValues(values), environment: environment(variables)).load()
    }

    private func message(_ body: () async throws -> Void) async -> String {
        let error = await #expect(throws: VFSError.self) { try await body() }
        #expect(error?.code == .credentialsInvalid)
        return error?.message ?? ""
    }

    @Test("Explicit keys win over everything")
    func explicit() async throws {
        let answer = try await load(
            [
                "access_key_id": .string("A"), "secret_access_key": .string("S"), "session_token": .string("T"),
            ], ["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "E"])
        #expect(answer.credentials == S3Credentials(accessKeyID: "A", secretAccessKey: "S", sessionToken: "T"))
        #expect(try await load(["anonymous": .boolean(true)], ["AWS_ACCESS_KEY_ID": "E"]).credentials == nil)
    }

    @Test("The environment's keys, token and region")
    func fromEnvironment() async throws {
        let answer = try await load(
            [:],
            [
                "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "AWS_SESSION_TOKEN": "T",
                "AWS_REGION": "eu-west-1", "AWS_PROFILE": "ignored",
            ])
        #expect(answer.credentials == S3Credentials(accessKeyID: "A", secretAccessKey: "S", sessionToken: "T"))
        #expect(await message { _ = try await load([:], ["AWS_ACCESS_KEY_ID": "A"]) }.contains("AWS_SECRET_ACCESS_KEY"))
        #expect(await message { _ = try await load([:], ["AWS_SECRET_ACCESS_KEY": "A"]) }.contains("AWS_ACCESS_KEY_ID"))
        #expect(
            await message { _ = try await load([:], ["HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"]) }
                .contains("no S3 credentials"))
    }

    private static let credentialsFile = """
        # comment
        [default]
        aws_access_key_id = DA
        aws_secret_access_key=DS
        [work]
        aws_access_key_id = WA
        aws_secret_access_key = WS=/+
          nested = passed over
        aws_session_token = WT
        """
    private static let configFile = """
        [default]
        region = us-west-2
        [profile work]
        region = eu-central-1
        s3 =
            max_concurrent_requests = 20
            role_arn = not.mine
        ; comment
        [profile role]
        role_arn = arn:aws:iam::1:role/x
        source_profile = default
        [profile "spaced name"]
        aws_access_key_id = SA
        aws_secret_access_key = SS
        [profile half]
        aws_access_key_id = HA
        [profile none]
        region = x
        [profile sso]
        sso_session = my
        """

    @Test("Shared files: profiles of both, merged")
    func sharedFiles() async throws {
        let folder = try Folder()
        let variables = [
            "AWS_SHARED_CREDENTIALS_FILE": folder.write("credentials", Self.credentialsFile),
            "AWS_CONFIG_FILE": folder.write("config", Self.configFile),
        ]
        func profile(_ name: String) async throws -> S3CredentialAnswer {
            try await load(["profile": .string(name)], variables)
        }

        let byDefault = try await load([:], variables)
        #expect(byDefault.credentials == S3Credentials(accessKeyID: "DA", secretAccessKey: "DS"))
        #expect(byDefault.files.count == 2)
        let work = try await profile("work")
        #expect(work.credentials == S3Credentials(accessKeyID: "WA", secretAccessKey: "WS=/+", sessionToken: "WT"))
        #expect(try await load([:], variables.merging(["AWS_PROFILE": "work"]) { $1 }).credentials == work.credentials)
        #expect(try await profile("spaced name").credentials?.accessKeyID == "SA")
        #expect(await message { _ = try await profile("half") }.contains("only"))
        #expect(await message { _ = try await profile("none") }.contains("neither"))
        #expect(await message { _ = try await profile("absent") }.contains("'absent'"))
    }

    private func process(_ folder: Folder, _ script: String) -> ProcessCredentials {
        // By way of sh: a program that is just being written by us may be held open by a child that another test starts.
        folder.write("process", "\(script)\n", mode: 0o600)
        return ProcessCredentials(command: "/bin/sh \(folder.path)/process 'two words'", timeout: .seconds(30))
    }

    @Test("A credential_process prints JSON")
    func processes() async throws {
        let folder = try Folder()
        let json =
            #"{"Version":1,"AccessKeyId":"PA","SecretAccessKey":"'"$1"'","#
            + #""SessionToken":"PT","Expiration":"2026-11-23T10:00:00Z"}"#
        let answer = try await process(folder, "echo noise >&2; read x; echo '\(json)'").load()
        #expect(
            answer.credentials
                == S3Credentials(
                    accessKeyID: "PA", secretAccessKey: "two words", sessionToken: "PT",
                    expiration: Timestamp(seconds: 1_795_428_000)))
    }

    @Test("A credential_process in a file that others may write is not run; keys in it are used")
    func writableProfile() async throws {
        let folder = try Folder()
        let mark = "\(folder.path)/was-run"
        let variables = [
            "AWS_SHARED_CREDENTIALS_FILE": folder.write("credentials", Self.credentialsFile),
            "AWS_CONFIG_FILE": folder.write("config", "[profile x]\ncredential_process = /bin/touch \(mark)\n"),
        ]
        let values: [String: OptionValue] = ["profile": .string("x")]
        for file in variables.values { chmod(file, 0o666) }
        #expect(
            await message { _ = try await load(values, variables) }.contains("everyone may write \(folder.path)/config")
        )
        #expect(access(mark, F_OK) != 0)
        #expect(try await load(["profile": .string("work")], variables).credentials?.accessKeyID == "WA")
        if geteuid() == 0 {
            for file in variables.values { chmod(file, 0o644) }
            chown(folder.path + "/config", 1234, 1234)
            #expect(await message { _ = try await load(values, variables) }.contains("belongs to user 1234"))
            #expect(access(mark, F_OK) != 0)
        }
        // That there is nothing in what it prints is another matter.
        for file in variables.values { chown(file, geteuid(), getegid()) }
        chmod(folder.path + "/config", 0o664)
        #expect(await message { _ = try await load(values, variables) }.contains("its group may write"))
        #expect(access(mark, F_OK) != 0)
        chmod(folder.path + "/config", 0o644)
        #expect(await message { _ = try await load(values, variables) }.contains("JSON"))
        #expect(access(mark, F_OK) == 0)
    }

    @Test("A credential_process that fails says how, and never what it printed")
    func processFailures() async throws {
        let folder = try Folder()
        let cases = [
            ("echo hush; exit 3", "exit code 3"), ("echo hush", "JSON"), ("kill -9 $$", "signal 9"),
            (#"echo '{"Version":2,"AccessKeyId":"hush","SecretAccessKey":"hush"}'"#, "version 2"),
            (#"echo '{"Version":1,"AccessKeyId":"hush"}'"#, "JSON"),
            (#"echo '{"Version":1,"AccessKeyId":"hush","SecretAccessKey":"hush","Expiration":"hush"}'"#, "Expiration"),
        ]
        for (script, expected) in cases {
            let text = await message { _ = try await process(folder, script).load() }
            #expect(text.contains(expected))
            #expect(!text.contains("hush"))
        }
        #expect(
            await message { _ = try await ProcessCredentials(command: "/nonexistent/x").load() }.contains(
                "cannot be started"))
    }

    @Test(
        "A credential_process that fails says why in its own words, without what would harm a terminal, however much that is"
    )
    func processComplaints() async throws {
        let folder = try Folder()
        let text = await message { _ = try await process(folder, "printf 'no \\033[31mtoken\\n' >&2; exit 2").load() }
        #expect(text.contains("exit code 2: no ") && text.contains("token") && !text.contains("\u{1B}"))
        let flood = await message { _ = try await process(folder, "yes complaint | head -c 300000 >&2; exit 1").load() }
        #expect(flood.contains("exit code 1: complaint") && flood.utf8.count < 500)
    }

    @Test("A credential_process has what it needs of the environment, and none of the secrets of others")
    func processEnvironment() async throws {
        let kept = ["HOME": "/h", "PATH": "/bin", "LC_ALL": "C", "XDG_RUNTIME_DIR": "/run", "AWS_CONFIG_FILE": "/c"]
        let dropped = ["AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "s", "B2_KEY": "s", "LD_PRELOAD": "/x"]
        #expect(ProcessCredentials.environment(kept.merging(dropped) { $1 }) == kept)
        setenv("CLOUDMOUNT_TEST_SECRET", "hush", 1)
        defer { unsetenv("CLOUDMOUNT_TEST_SECRET") }
        let folder = try Folder()
        let text = await message { _ = try await process(folder, "env >&2; exit 1").load() }
        #expect(!text.contains("hush"))
    }

    @Test("A credential_process that hangs or floods is ended")
    func endlessProcesses() async throws {
        let folder = try Folder()
        for script in ["exec sleep 1000", "sleep 1000 & echo x; wait", "exec yes", "exec 1>&-; sleep 1000"] {
            var process = process(folder, script)
            process.timeout = .seconds(1)
            let error = await #expect(throws: VFSError.self) { try await process.load() }
            // It is not the store that does not answer.
            #expect(error?.code == .credentialsInvalid && error?.message.contains("did not finish within") ?? false)
        }
    }

    @Test(
        "Commands are split at spaces outside quotes",
        arguments: [
            ("a b  c", ["a", "b", "c"]), (#""a b" c"#, ["a b", "c"]), ("a' 'b", ["a b"]), (#"a\ b"#, ["a b"]),
            (#"'a\b'"#, [#"a\b"#]), (#""" x"#, ["", "x"]), ("", []), ("'open", nil), (#"end\"#, nil),
        ] as [(String, [String]?)])
    func words(command: String, expected: [String]?) { #expect(ProcessCredentials.words(command) == expected) }

    @Test("A file that was changed is read again, by and by, without a restart")
    func watched() async throws {
        let folder = try Folder()
        let file = folder.write("credentials", Self.credentialsFile)
        let environment = environment(["AWS_SHARED_CREDENTIALS_FILE": file, "AWS_CONFIG_FILE": "/nonexistent"])
        let clock = TestClock()
        let store = S3CredentialStore(ProfileCredentials(profile: "work", environment: environment), now: clock.now)
        #expect(try await store.current().credentials?.accessKeyID == "WA")
        folder.write("credentials", "[work]\naws_access_key_id = NEW\naws_secret_access_key = NS\n")
        #expect(try await store.current().credentials?.accessKeyID == "WA")
        clock.advance(S3CredentialStore.interval + 1)
        // The old ones serve while the new ones are read in the background.
        while try await store.current().credentials?.accessKeyID != "NEW" { await Task.yield() }
        // A clock that is set back holds nothing up.
        clock.advance(-100_000)
        folder.write("credentials", "[work]\naws_access_key_id = NEWER\naws_secret_access_key = NS\n")
        while try await store.current().credentials?.accessKeyID != "NEWER" { await Task.yield() }
    }

    /// Credentials that somebody has set up, or those of the machine.
    private final class Falling: S3CredentialSource {
        private let state = Mutex((ofMachine: false, loads: 0))
        private let folder: Folder

        init(_ folder: Folder) { self.folder = folder }

        /// The file is another one than before.
        func touch() { folder.write("f", String(repeating: "x", count: loads + 1)) }
        var loads: Int { state.withLock { $0.loads } }
        func fall(_ falls: Bool) { state.withLock { $0.ofMachine = falls } }

        func load() async throws(VFSError) -> S3CredentialAnswer {
            let ofMachine = state.withLock { state in
                state.loads += 1
                return state.ofMachine
            }
            var answer = S3CredentialAnswer(
                credentials: S3Credentials(accessKeyID: ofMachine ? "ROLE" : "MINE", secretAccessKey: "S"),
                files: [WatchedFile("\(folder.path)/f")], source: ofMachine ? "role" : "profile")
            answer.isOfMachine = ofMachine
            return answer
        }
    }

    @Test("Those of the machine take the place of those that were set up only when they are all there is for two looks")
    func fallen() async throws {
        let (clock, source) = (TestClock(), Falling(try Folder()))
        let store = S3CredentialStore(source, now: clock.now)
        func refused() async throws -> String? {
            let answer = try await store.current()
            let loads = source.loads
            source.touch()
            let isNew = await store.replace(answer.credentials, .refused)
            #expect(source.loads == loads + 1)
            return isNew ? try await store.current().credentials?.accessKeyID : answer.credentials?.accessKeyID
        }
        #expect(try await store.current().credentials?.accessKeyID == "MINE")
        source.fall(true)
        // However often it is looked at meanwhile: a file that is being written is empty for a moment.
        for _ in 0..<3 { #expect(try await refused() == "MINE") }
        #expect(store.report?.problem?.contains("those of role are taken if that stays so") == true)
        source.fall(false)
        #expect(try await refused() == "MINE")
        #expect(store.report?.problem == nil)
        clock.advance(S3CredentialStore.interval)
        source.fall(true)
        #expect(try await refused() == "MINE")
        clock.advance(S3CredentialStore.interval)
        #expect(try await refused() == "ROLE")
    }

    @Test("A refusal makes a changed file count at once")
    func refused() async throws {
        let folder = try Folder()
        let file = folder.write("credentials", Self.credentialsFile)
        let environment = environment(["AWS_SHARED_CREDENTIALS_FILE": file, "AWS_CONFIG_FILE": "/nonexistent"])
        let store = S3CredentialStore(
            ProfileCredentials(profile: "work", environment: environment), now: TestClock().now)
        let old = try await store.current().credentials
        #expect(await store.replace(old, .refused) == false)
        folder.write("credentials", "[work]\naws_access_key_id = NEW\naws_secret_access_key = NS\n")
        #expect(await store.replace(old, .refused))
        #expect(try await store.current().credentials?.accessKeyID == "NEW")
    }

    /// Gives credentials that last for a quarter of an hour, or fails.
    private final class Expiring: S3CredentialSource {
        let clock: TestClock
        private let state = Mutex((loads: 0, fails: false))

        init(_ clock: TestClock) { self.clock = clock }

        var loads: Int { state.withLock { $0.loads } }
        func fail(_ fails: Bool) { state.withLock { $0.fails = fails } }

        func load() async throws(VFSError) -> S3CredentialAnswer {
            let (number, fails) = state.withLock { state in
                state.loads += 1
                return (state.loads, state.fails)
            }
            if fails { throw .credentials("no luck") }
            return S3CredentialAnswer(
                credentials: S3Credentials(
                    accessKeyID: "A\(number)", secretAccessKey: "S",
                    expiration: Timestamp(seconds: clock.now().seconds + 900)))
        }
    }

    @Test("Credentials are renewed ahead of their end, at a moment that chance decides, while the old ones serve")
    func renewed() async throws {
        for (chance, begin) in [(0.0, 675), (0.5, 563), (1.0, 450)] {
            let clock = TestClock()
            let source = Expiring(clock)
            let store = S3CredentialStore(source, now: clock.now, chance: { chance })
            #expect(try await store.current().credentials?.accessKeyID == "A1")
            clock.advance(begin - 5)
            #expect(try await store.current().credentials?.accessKeyID == "A1")
            #expect(source.loads == 1)
            clock.advance(10)
            #expect(try await store.current().credentials?.accessKeyID == "A1")
            while try await store.current().credentials?.accessKeyID != "A2" { await Task.yield() }
            #expect(source.loads == 2)
        }
    }

    @Test("Credentials that cannot be renewed serve past their end, until the store refuses them; then it is said why")
    func failing() async throws {
        let clock = TestClock()
        let source = Expiring(clock)
        let store = S3CredentialStore(source, now: clock.now)
        _ = try await store.current()
        source.fail(true)
        clock.advance(700)
        while source.loads < 2 {
            #expect(try await store.current().credentials?.accessKeyID == "A1")
            await Task.yield()
        }
        clock.advance(100_000)
        let old = try await store.current().credentials
        #expect(old?.accessKeyID == "A1")
        // It was tried before they were used past their end.
        #expect(source.loads == 3)
        #expect(await store.replace(old, .expired) == false)
        let error = await #expect(throws: VFSError.self) { try await store.current() }
        #expect(error?.code == .credentialsExpired)
        #expect(error?.message.hasSuffix("have expired and cannot be renewed: no luck") ?? false)
        source.fail(false)
        clock.advance(S3CredentialStore.interval)
        #expect(try await store.current().credentials?.expiration?.seconds == clock.now().seconds + 900)
    }

    @Test("Mounts of one identity share its credentials; written keys are their own")
    func shared() {
        let stores = S3CredentialStores()
        func store(_ values: [String: OptionValue]) -> S3CredentialStore { stores.store(OptionValues(values)) }
        let first = store(["profile": .string("a")])
        #expect(store(["profile": .string("a")]) === first)
        #expect(store(["profile": .string("b")]) !== first)
        let process = store(["credential_process": .string("a")])
        #expect(process !== first && store(["credential_process": .string("a")]) === process)
        let any = store([:])
        #expect(any !== first && store([:]) === any)
        let keys: [String: OptionValue] = ["access_key_id": .string("A"), "secret_access_key": .string("S")]
        #expect(store(keys) !== store(keys))
    }

    @Test("Who waits for credentials and gives up is let go, and the others are not")
    func cancelled() async throws {
        let source = Waiting()
        let store = S3CredentialStore(source)
        let patient = Task { try await store.current().credentials?.accessKeyID }
        while !source.isAsked { await Task.yield() }
        let impatient = Task { try await store.current() }
        impatient.cancel()
        let error = await #expect(throws: VFSError.self) { try await impatient.value }
        #expect(error?.code == .cancelled)
        source.answer()
        #expect(try await patient.value == "A")
    }

    private final class Waiting: S3CredentialSource {
        private let state = Mutex((asked: false, answers: false))
        private let waiters = Waiters()

        var isAsked: Bool { state.withLock { $0.asked } }
        func answer() {
            state.withLock { $0.answers = true }
            waiters.resume()
        }

        func load() async throws(VFSError) -> S3CredentialAnswer {
            state.withLock { $0.asked = true }
            await waiters.wait(unless: { self.state.withLock { $0.answers } })
            return S3CredentialAnswer(credentials: S3Credentials(accessKeyID: "A", secretAccessKey: "S"))
        }
    }

    @Test("A command that fails is not run for each call, and its failure is told meanwhile")
    func failingOften() async throws {
        let clock = TestClock()
        let source = Expiring(clock)
        source.fail(true)
        let store = S3CredentialStore(source, now: clock.now)
        for number in 0..<40 {
            let error = await #expect(throws: VFSError.self) { try await store.current() }
            #expect(error?.message == "no luck")
            #expect(source.loads == 1 + number / 10)
            clock.advance(1)
        }
        source.fail(false)
        #expect(try await store.current().credentials?.accessKeyID == "A5")
        // A clock that is set back holds nothing up.
        source.fail(true)
        let known = try await store.current().credentials
        for _ in 0..<3 { #expect(await store.replace(known, .expired) == false) }
        #expect(source.loads == 6)
        clock.advance(-7200)
        #expect(await store.replace(known, .expired) == false)
        #expect(source.loads == 7)
    }

    @Test("Refusals that may be something else do not run a command for each object; clear ones wait for a while only")
    func refusedOften() async throws {
        let clock = TestClock()
        let source = Expiring(clock)
        let store = S3CredentialStore(source, now: clock.now)
        _ = try await store.current()
        clock.advance(60)
        // The first after a quiet time is one.
        #expect(await store.replace(try await store.current().credentials, .perhapsExpired))
        #expect(source.loads == 2)
        for _ in 0..<59 {
            #expect(await store.replace(try await store.current().credentials, .perhapsExpired) == false)
            clock.advance(1)
        }
        #expect(source.loads == 2)
        // The store has said it clearly.
        #expect(await store.replace(try await store.current().credentials, .expired))
        #expect(source.loads == 3)
        #expect(await store.replace(try await store.current().credentials, .expired) == false)
        clock.advance(S3CredentialStore.interval)
        #expect(await store.replace(try await store.current().credentials, .expired))
        #expect(source.loads == 4)
        // Who was refused with older ones has others now.
        #expect(await store.replace(S3Credentials(accessKeyID: "A1", secretAccessKey: "S"), .perhapsExpired))
        #expect(source.loads == 4)
    }

    @Test("Many callers share one reading")
    func singleFlight() async throws {
        let clock = TestClock()
        let source = Expiring(clock)
        let store = S3CredentialStore(source, now: clock.now)
        try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<64 { group.addTask { try await store.current().credentials?.accessKeyID } }
            for try await id in group { #expect(id == "A1") }
        }
        #expect(source.loads == 1)
    }
}
