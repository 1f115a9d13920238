import CloudMountVFS
import Glibc
import Testing

@testable import CloudMountConfig

@Suite("One mount by its URL, and the file that it is added to")
struct MountEntryTests {
    private static let folder = ProviderDescriptor(
        name: "directory", summary: "a folder", bucketMeaning: "absolute path", url: .path("file"),
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })
    private static let store = ProviderDescriptor(
        name: "s3", summary: "a store", bucketMeaning: "bucket name",
        options: [
            OptionDescriptor("endpoint", .url, "where"), OptionDescriptor("path_style", .boolean, "how"),
            OptionDescriptor("retries", .integer, "how many"),
        ],
        credentials: [OptionDescriptor("profile", .string, "who")],
        check: { context in
            context.bucket.contains("_")
                ? [OptionProblem(option: "bucket", message: "is not the name of a bucket")] : []
        },
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })
    private static let providers = [folder, store]

    private func entry(_ url: String, _ path: String = "/mnt/new", name: String? = nil) throws(MountEntry.Fault)
        -> MountEntry
    {
        try MountEntry(url: url, path: path, name: name, providers: Self.providers)
    }

    @Test(
        "a URL says bucket and prefix as its provider has it, and what the mount is called",
        arguments: [
            ("s3://my-photos/2026", "s3", "my-photos", "2026", "2026"), ("S3://b", "s3", "b", "", "b"),
            ("s3://b/a/c d/", "s3", "b", "a/c d/", "c-d"), ("s3://b/__/", "s3", "b", "__/", "mount"),
            ("file:///srv/inbox", "directory", "/srv/inbox", "", "inbox"),
            ("file:///srv/a%20b", "directory", "/srv/a b", "", "a-20b"),
            ("file://localhost/srv", "directory", "/srv", "", "srv"),
        ])
    func places(_ url: String, _ provider: String, _ bucket: String, _ prefix: String, _ name: String) throws {
        let entry = try entry(url)
        #expect(entry.provider.name == provider)
        #expect(entry.place == StorePlace(bucket: bucket, prefix: prefix))
        #expect(entry.name == name)
    }

    @Test(
        "what is no such URL is told",
        arguments: [
            ("my-photos", "'my-photos' is not a URL such as s3://bucket/prefix"), ("s3://", "'s3://' is not a URL"),
            ("s4://b", "no provider takes 's4://' (known: file, s3); did you mean 's3'?"),
            ("s3:///b", "'s3:///b' is not of the form s3://bucket/prefix"),
            ("file://srv", "'file://srv' is not of the form file:///srv/folder"),
            ("file:///a%2", "is not of the form"), ("file:///a%00", "is not of the form"),
        ])
    func faults(_ url: String, _ message: String) {
        let fault = #expect(throws: MountEntry.Fault.self) { try entry(url) }
        #expect(fault?.message.contains(message) == true, "\(fault?.message ?? "")")
    }

    @Test("a path is made absolute, and a name is checked")
    func paths() throws {
        let here = try #require(getcwd(nil, 0))
        defer { free(here) }
        #expect(try entry("s3://b", "x/../y/./z").path == String(cString: here) + "/y/z")
        #expect(
            throws: MountEntry.Fault(message: "'--name a b' is not a name: letters, digits, '.', '_' and '-' make one")
        ) {
            try entry("s3://b", name: "a b")
        }
    }

    private func added(_ text: String?, _ entry: MountEntry, in folder: String) throws -> (String, Configuration) {
        let path = folder + "/mounts.yaml"
        if let text {
            let file = try #require(fopen(path, "w"))
            fputs(text, file)
            fclose(file)
        }
        let (file, configuration) = try MountsFile(path: path).adding(
            entry, providers: Self.providers, environment: [:])
        try file.save()
        let content = try SmallFile(path: path, limit: Configuration.maxFileSize)
        return (String(decoding: content.bytes, as: UTF8.self), configuration)
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/cm-entry-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        defer {
            for name in ["mounts.yaml", "real.yaml", "mounts.yaml.bak", "real.yaml.bak"] { unlink("\(folder)/\(name)") }
            rmdir(folder)
        }
        try body(folder)
    }

    @Test("the line comes behind the last mount, and all else stays as it is")
    func insertion() throws {
        let texts: [(before: String, after: String)] = [
            (
                "version: 1 # one\n# all\nmounts:\n  # first\n  - name: a\n    path: /mnt/a\n    provider: directory\n    bucket: /a # x\n\n# end\npolicies:\n  p: { extends: media }\n",
                "version: 1 # one\n# all\nmounts:\n  # first\n  - name: a\n    path: /mnt/a\n    provider: directory\n    bucket: /a # x\n  - @\n\n# end\npolicies:\n  p: { extends: media }\n"
            ),
            (
                "mounts:\n- { name: a, path: /mnt/a, provider: directory, bucket: /a }\nversion: 1",
                "mounts:\n- { name: a, path: /mnt/a, provider: directory, bucket: /a }\n- @\nversion: 1\n"
            ),
            (
                "version: 1\r\nmounts:\r\n    - { name: a, path: /mnt/a, provider: directory, bucket: /a }\r\n",
                "version: 1\r\nmounts:\r\n    - { name: a, path: /mnt/a, provider: directory, bucket: /a }\r\n    - @\r\n"
            ),
            ("version: 1\nmounts:\n", "version: 1\nmounts:\n  - @\n"),
            ("version: 1\n# nothing yet\n", "version: 1\n# nothing yet\nmounts:\n  - @\n"),
        ]
        let line =
            "{ name: new, path: /mnt/new, provider: s3, bucket: b, prefix: p, path_style: true, retries: 3, "
            + "credentials: { provider: s3, profile: \"2\" }, cache: media, read_only: true }"
        var entry = try entry("s3://b/p", name: "new")
        entry.options = ["path_style": "true", "retries": "3"]
        entry.credentials = .inPlace(["profile": "2"])
        entry.cache = "media"
        entry.isReadOnly = true
        for (before, after) in texts {
            try withFolder { folder in
                let (text, configuration) = try added(before, entry, in: folder)
                #expect(text == after.replacing("@", with: line))
                let mount = try #require(configuration.mounts.last)
                #expect(mount.name == "new" && mount.context.prefix == "p/" && mount.readOnly)
                #expect(mount.context.options.boolean("path_style") == true && mount.policyName == "media")
                #expect(mount.context.credentials.string("profile") == "2")
            }
        }
    }

    @Test("a file that does not exist is made for its owner alone; a link to one stays, and so does its mode")
    func files() throws {
        try withFolder { folder in
            let (text, _) = try added(nil, try entry("file:///srv"), in: folder)
            #expect(
                text == "version: 1\n\nmounts:\n  - { name: srv, path: /mnt/new, provider: directory, bucket: /srv }\n")
            var status = stat()
            #expect(stat(folder + "/mounts.yaml", &status) == 0 && status.st_mode & 0o777 == 0o600)
            rename(folder + "/mounts.yaml", folder + "/real.yaml")
            chmod(folder + "/real.yaml", 0o640)
            symlink("real.yaml", folder + "/mounts.yaml")
            var other = try entry("s3://b", "/mnt/b")
            other.name = "b2"
            _ = try added(nil, other, in: folder)
            #expect(lstat(folder + "/mounts.yaml", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
            #expect(stat(folder + "/mounts.yaml", &status) == 0 && status.st_mode & 0o777 == 0o640)
            // What it was is kept beside the file itself, as private as it.
            #expect(stat(folder + "/real.yaml.bak", &status) == 0 && status.st_mode & 0o777 == 0o640)
            let backup = try SmallFile(path: folder + "/real.yaml.bak", limit: 1 << 20)
            #expect(String(decoding: backup.bytes, as: UTF8.self) == text)
        }
    }

    private func removed(_ name: String, from text: String) throws -> String {
        var after = ""
        try withFolder { folder in
            let file = try MountsFile(path: folder + "/mounts.yaml").replacing(Array(text.utf8))
            let changed = try file.removing(name, providers: Self.providers, environment: [:]).file
            after = String(decoding: changed.bytes, as: UTF8.self)
        }
        return after
    }

    @Test("a mount goes with its own lines, and all else stays as it is")
    func removal() throws {
        let a = "  - { name: a, path: /mnt/a, provider: directory, bucket: /a } # the first\n"
        let b = "  # of b\n  - name: b\n    # where\n    path: /mnt/b\n    provider: directory\n    bucket: /b\n"
        let c = "\n  # of c\n  - { path: /mnt/c, provider: directory, bucket: /c,\n      name: \"c\" }\n"
        let (head, tail) = ("# mine\nversion: 1\nmounts:\n", "  # no more\npolicies:\n  p: { extends: media }\n")
        #expect(try removed("a", from: head + a + b + c + tail) == head + b + c + tail)
        #expect(try removed("b", from: head + a + b + c + tail) == head + a + "  # of b\n" + c + tail)
        #expect(try removed("c", from: head + a + b + c + tail) == head + a + b + "\n  # of c\n" + tail)
        #expect(try removed("a", from: head + a + tail) == head + tail)
        let windows = (head + a + b).replacing("\n", with: "\r\n")
        #expect(try removed("b", from: windows) == (head + a + "  # of b\n").replacing("\n", with: "\r\n"))
        #expect(try removed("b", from: head + a + b.dropLast()) == head + a + "  # of b\n")
    }

    @Test("no mount goes that is not there, or that cannot be cut out without others")
    func removalRefused() throws {
        func refusal(_ name: String, _ text: String) -> String {
            let error = #expect(throws: ConfigurationError.self) { try removed(name, from: text) }
            return error.map { $0.description.split(separator: ": ").dropFirst().joined(separator: ": ") } ?? ""
        }
        let one = "version: 1\nmounts:\n  - { name: photos, path: /mnt/a, provider: directory, bucket: /a }\n"
        #expect(refusal("foto", one) == "there is no mount 'foto'; it has photos")
        #expect(refusal("photo", one) == "there is no mount 'photo'; it has photos; did you mean 'photos'?")
        #expect(refusal("a", "version: 1\nmounts:\n") == "there is no mount 'a'; it has none")
        let flow = "version: 1\nmounts: [{ name: a, path: /mnt/a, provider: directory, bucket: /a }]\n"
        let cannot = "the mount 'a' cannot be cut out of it as it is written; 'cloudmount edit' opens the file"
        #expect(refusal("a", flow) == cannot)
        // Another mount is written by what this one says.
        let shared =
            "version: 1\nmounts:\n  - { name: a, path: /mnt/a, provider: &p directory, bucket: /a }\n"
            + "  - { name: b, path: /mnt/b, provider: *p, bucket: /b }\n"
        #expect(refusal("a", shared) == cannot)
        #expect(refusal("a", "version: 1\nmounts: {\n").contains("mounts.yaml") == false)
    }

    @Test("what looks like a reference, or is a line end to YAML, is taken as it is")
    func literal() throws {
        for prefix in ["${env:HOME}", "$${file:/etc/passwd}", "a${", "x\u{85}y", "x\u{2028}y", "\u{FEFF}z\u{7F}"] {
            try withFolder { folder in
                var entry = try entry("s3://b/\(prefix)", "/mnt/\(prefix)", name: "new")
                entry.options = ["endpoint": "https://host/${env:HOME}"]
                let (_, configuration) = try added(nil, entry, in: folder)
                let mount = try #require(configuration.mounts.last)
                #expect(mount.context.prefix == prefix + "/" && mount.path == "/mnt/" + prefix)
                #expect(mount.context.options.string("endpoint") == "https://host/${env:HOME}")
            }
        }
    }

    @Test("a password in a URL is in no message")
    func passwords() throws {
        let a = "version: 1\nmounts:\n  - { name: a, path: /mnt/a, provider: directory, bucket: /a }\n"
        let flow = "version: 1\nmounts: [{ name: a, path: /mnt/a, provider: directory, bucket: /a }]\n"
        for url in ["s3://alice:secret@b_c", "gs://alice:secret@b", "alice:secret@b", "s3:///alice:sec/ret@b"] {
            for text in [a, flow] {
                try withFolder { folder in
                    var message = ""
                    do { _ = try added(text, try entry(url), in: folder) } catch {
                        message =
                            (error as? MountEntry.Fault)?.message ?? (error as? ConfigurationError)?.description ?? ""
                    }
                    #expect(
                        !message.isEmpty && !message.contains("secret") && !message.contains("sec/ret"), "\(message)")
                }
            }
        }
        #expect(StoreURL.shown("https://alice:secret@host/dav?token=t#x") == "https://host/dav…")
        #expect(StoreURL.shown("s3://bucket/a@b?c") == "s3://bucket/a@b?c")
        #expect(StoreURL.shown("https://alice:sec/ret@host/dav") == "https://host/dav")
    }

    @Test("nothing is added where it would not be right, and what is wrong is told")
    func refusals() throws {
        func refusal(_ text: String, _ entry: MountEntry) throws -> String {
            var message = ""
            try withFolder { folder in
                let error = #expect(throws: ConfigurationError.self) { try added(text, entry, in: folder) }
                message =
                    error?.problems.map(\.description).joined(separator: "\n").replacing(folder + "/", with: "") ?? ""
                let now = try SmallFile(path: folder + "/mounts.yaml", limit: 1 << 20)
                #expect(String(decoding: now.bytes, as: UTF8.self) == text)
            }
            return message
        }
        let a = "version: 1\nmounts:\n  - { name: a, path: /mnt/a, provider: directory, bucket: /a }\n"
        #expect(try refusal(a, try entry("s3://b_c")) == "s3://b_c: 'bucket' is not the name of a bucket")
        #expect(try refusal(a, try entry("s3://a")) == "s3://a: two mounts are called 'a'; the first is on line 3")
        #expect(
            try refusal(a, try entry("s3://b", "/mnt/a"))
                == "s3://b: the path /mnt/a is taken by the mount 'a' on line 3")
        #expect(try refusal("mounts: [\n", try entry("s3://b")).hasPrefix("mounts.yaml:"))
        let flow = "version: 1\nmounts: [{ name: a, path: /mnt/a, provider: directory, bucket: /a }]\n"
        #expect(try refusal(flow, try entry("s3://b")).hasPrefix("mounts.yaml: no line can be added to its mounts as"))
        #expect(try refusal("version: 1\nmounst:\n", try entry("s3://b")).contains("mounts.yaml:2:1"))
    }

    @Test("a file that somebody else has changed meanwhile is not written over")
    func race() throws {
        try withFolder { folder in
            let path = folder + "/mounts.yaml"
            let (file, _) = try MountsFile(path: path).adding(
                try entry("s3://b"), providers: Self.providers, environment: [:])
            let theirs = try #require(fopen(path, "w"))
            fputs("version: 1\n", theirs)
            fclose(theirs)
            let error = #expect(throws: ConfigurationError.self) { try file.save() }
            #expect(error?.description == "\(path): has just been changed by somebody else")
        }
    }
}
