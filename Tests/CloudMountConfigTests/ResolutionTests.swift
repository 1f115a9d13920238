import CloudMountVFS
import Glibc
import Testing

@testable import CloudMountConfig

@Suite("What a configuration means")
struct ResolutionTests {
    @Test("the configuration of the benchmark is accepted as it is")
    func benchmark() throws {
        let configuration = try Fixtures.load(
            """
            version: 1
            cache: { directory: /x/cm, size: 20GiB }
            control: { socket: /x/cm.sock }
            mounts:
              - name: bench
                path: /tmp/mnt
                provider: s3
                bucket: bench
                endpoint: http://127.0.0.1:9310
                region: us-east-1
                path_style: true
                allow_other: true
                credentials: { provider: s3, access_key_id: k, secret_access_key: s }
            """)
        #expect(configuration.cache == Configuration.Cache(directory: "/x/cm", size: 20 << 30, keepFree: 1 << 30))
        #expect(configuration.controlSocket == "/x/cm.sock")
        #expect(configuration.memory == 144 << 20)
        let mount = try #require(configuration.mounts.first)
        #expect(mount.provider.name == "s3")
        #expect(mount.context.options.string("endpoint") == "http://127.0.0.1:9310")
        #expect(mount.context.options.boolean("path_style") == true)
        #expect(mount.context.credentials.string("secret_access_key") == "s")
        #expect(mount.allowOther && !mount.readOnly)
        #expect((mount.uid, mount.gid, mount.umask) == (1000, 100, 0o022))
        #expect(mount.policy == CachePolicy())
    }

    @Test("what nobody says is where the system has it")
    func places() throws {
        let user = try Fixtures.load(Fixtures.good)
        #expect(user.cache.directory == "/home/anna/.cache/cloudmount")
        #expect(user.controlSocket == "/tmp/cloudmount-1000/control.sock")
        let root = UserPlaces(environment: [:], uid: 0, gid: 0)
        #expect(root.cacheDirectory == "/var/cache/cloudmount")
        #expect(root.controlSocket == "/run/cloudmount/control.sock")
        #expect(root.configurationFiles == ["/etc/cloudmount/mounts.yaml"])
        let desktop = UserPlaces(
            environment: ["HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7", "XDG_CACHE_HOME": "/c"], uid: 7, gid: 7)
        #expect(desktop.controlSocket == "/run/user/7/cloudmount/control.sock")
        #expect(desktop.cacheDirectory == "/c/cloudmount")
        #expect(desktop.configurationFiles == ["/h/.config/cloudmount/mounts.yaml", "/etc/cloudmount/mounts.yaml"])
        #expect(UserPlaces(environment: ["CLOUDMOUNT_CONFIG": "/m"], uid: 7, gid: 7).configurationFile == "/m")
    }

    @Test("a policy has what it extends where it says nothing")
    func policies() throws {
        let configuration = try Fixtures.load(
            """
            version: 1
            policies:
              photos: { extends: base, prefetch: 1MiB }
              base: { extends: media, negative_ttl: 0, freshness: open }
            defaults: { cache: photos, umask: "077", read_only: true, uid: 5 }
            mounts:
              - {name: a, path: /mnt/a, provider: directory, bucket: /a}
              - {name: b, path: /mnt/b, provider: directory, bucket: /b, cache: {data: off}, read_only: false}
              - {name: c, path: ~/c//d/, provider: directory, bucket: /c, cache: strict, prefix: runs, uid: 6}
            """)
        let a = configuration.mounts[0]
        #expect(a.policyName == "photos")
        #expect(a.policy.metadataTTL == .seconds(600))
        #expect(a.policy.negativeTTL == .zero)
        #expect(a.policy.freshness == .open)
        #expect(a.policy.prefetch == 1 << 20)
        #expect((a.umask, a.readOnly, a.uid, a.gid) == (0o077, true, 5, 100))
        let b = configuration.mounts[1]
        #expect(b.policyName == nil && b.policy.data == .off && b.policy.metadataTTL == .seconds(60) && !b.readOnly)
        let c = configuration.mounts[2]
        #expect(
            c.policy.freshness == .always && c.path == "/home/anna/c/d" && c.context.prefix == "runs/" && c.uid == 6)
    }

    @Test("anchors and merges work, and x- keys are the user's")
    func anchors() throws {
        let configuration = try Fixtures.load(
            """
            version: 1
            x-common: &common { provider: directory, read_only: true, umask: "027" }
            mounts:
              - {<<: *common, name: a, path: /mnt/a, bucket: /a}
              - {<<: [*common, {umask: "000"}], name: b, path: /mnt/b, bucket: /b, read_only: false}
            """)
        #expect(configuration.mounts.map(\.readOnly) == [true, false])
        #expect(configuration.mounts.map(\.umask) == [0o027, 0o027])
    }

    @Test("variables stand in any value")
    func variables() throws {
        let configuration = try Fixtures.load(
            """
            version: 1
            memory: ${env:MEMORY:-64MiB}
            mounts:
              - name: a
                path: /mnt/${env:BUCKET}
                provider: directory
                bucket: "$${env:BUCKET} ${env:EMPTY:-${env:BUCKET}}${env:EMPTY}"
                read_only: ${env:READ_ONLY:-true}
            """)
        #expect(configuration.memory == 64 << 20)
        #expect(configuration.mounts[0].path == "/mnt/holiday")
        #expect(configuration.mounts[0].context.bucket == "${env:BUCKET} holiday")
        #expect(configuration.mounts[0].readOnly)
    }

    @Test("the control socket is found whatever else is wrong with the file")
    func controlSocket() throws {
        let path = try temporaryFile("version: 9\ncontrol: {socket: /x/s}\nmounts: ${env:NO_SUCH}\n", mode: 0o600)
        defer { unlink(path) }
        #expect(try Configuration.controlSocket(file: path, environment: [:]) == "/x/s")
    }
}

@Suite("Secrets")
struct SecretTests {
    private func mount(_ secret: String) -> String {
        """
        version: 1
        mounts:
          - name: a
            path: /mnt/a
            provider: s3
            bucket: b
            customer_key: hunter2
            credentials: { access_key_id: k, secret_access_key: "\(secret)" }
        """
    }

    @Test("a file's content is taken without its last newline")
    func file() throws {
        let path = try temporaryFile("hunter2\n", mode: 0o600)
        defer { unlink(path) }
        let configuration = try Fixtures.load(mount("${file:\(path)}"))
        #expect(configuration.mounts[0].context.credentials.string("secret_access_key") == "hunter2")
    }

    @Test("a secret file that everyone can read is refused, another file is not")
    func readableFile() throws {
        let path = try temporaryFile("hunter2\n", mode: 0o644)
        defer { unlink(path) }
        #expect(
            Fixtures.errors(mount("${file:\(path)}")) == [
                "m.yaml:8:57: 'secret_access_key': the secret file \(path) can be read by everyone (mode 0644); chmod 600 it"
            ])
        let configuration = try Fixtures.load(Fixtures.withMount("    prefix: ${file:\(path)}\n"))
        #expect(configuration.mounts[0].context.prefix == "hunter2/")
    }

    @Test("what cannot be resolved is told without the value")
    func unresolved() {
        #expect(
            Fixtures.errors(mount("${env:SECRT}")) == [
                "m.yaml:8:57: 'secret_access_key': the environment has no 'SECRT'; did you mean 'SECRET'?"
            ])
        #expect(
            Fixtures.errors(mount("${file:key}")) == [
                "m.yaml:8:57: 'secret_access_key': the path in '${file:…}' must be absolute"
            ])
        #expect(
            Fixtures.errors(mount("${file:/no/such}")) == [
                "m.yaml:8:57: 'secret_access_key': cannot read the file /no/such: No such file or directory"
            ])
        #expect(Fixtures.errors(mount("${env:A")) == ["m.yaml:8:57: 'secret_access_key': '${' is never closed"])
        #expect(
            Fixtures.errors(mount("${hunter2}")) == [
                "m.yaml:8:57: 'secret_access_key': '${…}' takes env:NAME or file:PATH"
            ])
        #expect(Fixtures.errors(mount("")) == ["m.yaml:8:57: 'secret_access_key' is empty"])
    }

    @Test("a file without mounts is right, and warned of", arguments: ["mounts:", "mounts: []", "mounts: ~"])
    func noMounts(_ text: String) throws {
        let configuration = try Fixtures.load("version: 1\n\(text)\n")
        #expect(configuration.mounts.isEmpty)
        let warnings = configuration.warnings.map(\.description)
        #expect(warnings.count == 1 && warnings[0].hasSuffix("there are no mounts; 'cloudmount add' writes one"))
    }

    @Test("a secret written in a file that everyone can read is warned of")
    func readableConfiguration() throws {
        let warned = try Fixtures.load(mount("hunter2"), mode: 0o100644)
        #expect(
            warned.warnings.map(\.description) == [
                "m.yaml:7:19: 'customer_key' is written here, and everyone can read this file (mode 0644); chmod 600 it, or use ${env:…} or ${file:…}",
                "m.yaml:8:57: 'secret_access_key' is written here, and everyone can read this file (mode 0644); chmod 600 it, or use ${env:…} or ${file:…}",
            ])
        #expect(try Fixtures.load(mount("hunter2"), mode: 0o600).warnings.isEmpty)
        let other = try Fixtures.load(mount("${env:SECRET}").replacing("customer_key: hunter2", with: ""), mode: 0o644)
        #expect(other.warnings.isEmpty)
    }

    @Test("a command in a file that everyone may write is refused")
    func writableConfiguration() throws {
        let text = mount("${env:SECRET}").replacing("customer_key: hunter2", with: "helper: /bin/keys")
        for mode: UInt32 in [0o100666, 0o662, 0o602] {
            let error = #expect(throws: ConfigurationError.self) { try Fixtures.load(text, mode: mode) }
            #expect(error?.description.contains("'helper' names a command, and everyone may write this file") ?? false)
        }
        // Where each user has a group of his own, files are often its as well.
        for mode: UInt32 in [0o644, 0o664] { _ = try Fixtures.load(text, mode: mode) }
        _ = try Fixtures.load(Fixtures.withMount(""), mode: 0o666)
    }

    @Test("a command in a file of another user is refused, one of root's or of our own is not")
    func foreignConfiguration() throws {
        let text = mount("${env:SECRET}").replacing("customer_key: hunter2", with: "helper: /bin/keys")
        for owner: UInt32 in [0, 1000] { _ = try Fixtures.load(text, owner: owner) }
        let error = #expect(throws: ConfigurationError.self) { try Fixtures.load(text, owner: 1001) }
        #expect(
            error?.description.contains("'helper' names a command, and this file belongs to user 1001") ?? false)
        _ = try Fixtures.load(Fixtures.withMount(""), owner: 1001)
    }

    @Test("a command that comes from a file which everyone may write is refused")
    func writableCommandFile() throws {
        let path = try temporaryFile("/bin/keys\n", mode: 0o666)
        defer { unlink(path) }
        let text = mount("${env:SECRET}").replacing("customer_key: hunter2", with: "helper: ${file:\(path)}")
        var places = Fixtures.places
        places.uid = geteuid()
        let error = #expect(throws: ConfigurationError.self) { try Fixtures.load(text, places: places) }
        #expect(error?.description.contains("everyone may write \(path) (mode 0666)") ?? false)
        chmod(path, 0o644)
        _ = try Fixtures.load(text, places: places)
    }

    @Test("no secret is in any message or in the effective configuration")
    func hidden() throws {
        #expect(try !Fixtures.load(mount("${env:SECRET}")).effectiveText.contains("hunter2"))
        let wrong = [
            mount("hunter2\\0"), mount("hunter2").replacing("customer_key: hunter2", with: "customer_key: [hunter2]"),
            mount("hunter2").replacing("credentials: {", with: "credentials: hunter2hunter2hunter2\n    x: {"),
            mount("hunter2").replacing("customer_key: hunter2", with: "customer_key: \"hunter2"),
            mount("hunter2").replacing("customer_key: hunter2", with: "customer_key: hunter2: hunter2"),
            mount("hunter2").replacing("customer_key: hunter2", with: "credentials: hunter2/+"),
            mount("${file:/no/such").replacing("path_style", with: "hunter"),
            "hunter2", "- hunter2\n", "version: 1\nmounts: hunter2\n", "version: 1\ncredentials: hunter2\nmounts: []\n",
            "version: 1\ncredentials: {a: hunter2}\nmounts: []\n",
            "version: 1\ncredentials:\n  a:\n   secret_access_key: @hunter2\nmounts: []\n",
        ]
        for text in wrong {
            let errors = Fixtures.errors(text)
            #expect(!errors.isEmpty)
            for error in errors { #expect(!error.contains("hunter2"), "\(error)") }
        }
    }
}

/// Made new, removed by the caller.
func temporaryFile(_ text: String, mode: mode_t) throws -> String {
    var template = Array("/tmp/cloudmount-test-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw SmallFile.Fault(message: "no temporary file") }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    guard write(descriptor, bytes, bytes.count) == bytes.count else { throw SmallFile.Fault(message: "not written") }
    fchmod(descriptor, mode)
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
