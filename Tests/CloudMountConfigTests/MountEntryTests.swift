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
            for name in ["mounts.yaml", "real.yaml"] { unlink("\(folder)/\(name)") }
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
        }
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
