import CloudMountVFS
import Testing

@testable import CloudMountConfig

/// A file and everything that is said about it.
struct Wrong: Sendable, CustomTestStringConvertible {
    var name: String
    var text: String
    var errors: [String]

    init(_ name: String, _ text: String, _ errors: String...) {
        self.name = name
        self.text = text
        self.errors = errors
    }

    var testDescription: String { name }
}

@Suite("What is said about a wrong mounts.yaml")
struct ErrorMessageTests {
    @Test("each fault is told with its place, its text and what was probably meant", arguments: keys + values + whole)
    func faults(_ wrong: Wrong) { #expect(Fixtures.errors(wrong.text) == wrong.errors) }

    @Test("text that is not YAML is told where it stops being YAML", arguments: syntax)
    func syntaxErrors(_ wrong: Wrong) { #expect(Fixtures.errors(wrong.text) == wrong.errors) }

    static let mount = "  - {name: a, path: /mnt/a, provider: directory, bucket: /srv/a}\n"

    static let keys = [
        Wrong("an empty file", "", "m.yaml: is empty; it must have 'version' and 'mounts'"),
        Wrong("only comments", "# nothing\n", "m.yaml: is empty; it must have 'version' and 'mounts'"),
        Wrong("a list at the top", "- a\n", "m.yaml:1:1: the file must be a mapping, found a list"),
        Wrong("no mounts", "version: 1\n", "m.yaml:1:1: the file has no 'mounts'"),
        Wrong(
            "mounts without a list", "version: 1\nmounts: photos\n", "m.yaml:2:9: 'mounts' must be a list, found text"),
        Wrong(
            "another version", "version: 2\nmounts:\n\(mount)",
            "m.yaml:1:10: 'version: 2' is not supported; this cloudmount reads version 1"),
        Wrong(
            "an unknown key at the top", "version: 1\nmount: []\nmounts:\n\(mount)",
            "m.yaml:2:1: unknown key 'mount' in the file; did you mean 'mounts'?"),
        Wrong(
            "an unknown key of a mount", Fixtures.withMount("    bukcet: x\n"),
            "m.yaml:7:5: unknown key 'bukcet' in a mount of provider 'directory'; did you mean 'bucket'?"),
        Wrong(
            "a key that resembles nothing", Fixtures.withMount("    zzzzzz: x\n"),
            "m.yaml:7:5: unknown key 'zzzzzz' in a mount of provider 'directory'"),
        Wrong(
            "a key given twice", Fixtures.withMount("    path: /mnt/b\n"),
            "m.yaml:7:5: 'path' is given twice; the first is on line 4"),
        Wrong(
            "a secret on the mount",
            """
            version: 1
            mounts:
              - name: a
                path: /mnt/a
                provider: s3
                bucket: b
                secret_access_key: hunter2
                credentials: {access_key_id: k, secret_access_key: s, region: r}
            """,
            "m.yaml:7:5: 'secret_access_key' does not belong in a mount but in credentials",
            "m.yaml:8:59: 'region' does not belong in credentials but in the mount"),
        Wrong(
            "settings of later versions",
            """
            version: 1
            control: { http: 127.0.0.1:7979 }
            policies:
              p: { write: never, data: disc, size: some, sync: no }
              q: { write: through, offline: sometimes, on_conflict: merge, durable_attributes: 1 }
            mounts:
              - {name: a, path: /mnt/a, provider: directory, bucket: /srv/a, cache: ofline}
            """,
            "m.yaml:2:12: 'http' is not supported yet",
            "m.yaml:4:15: 'write: never' is unknown (known: through, back)",
            "m.yaml:4:28: 'data: disc' is unknown (known: off, memory, disk); did you mean 'disk'?",
            "m.yaml:4:40: 'size: some' is not a size such as 64MiB",
            "m.yaml:4:52: 'sync: no' is unknown (known: local, store)",
            "m.yaml:5:33: 'offline: sometimes' is unknown (known: serve, fail)",
            "m.yaml:5:57: 'on_conflict: merge' is unknown (known: keep-both, fail, overwrite)",
            "m.yaml:5:84: 'durable_attributes: 1' is neither true nor false; did you mean true?",
            "m.yaml:7:73: there is no policy 'ofline'; did you mean 'offline'?"),
    ]

    static let values = [
        Wrong(
            "an unknown provider",
            "version: 1\nmounts:\n  - {name: a, path: /mnt/a, provider: s4, bucket: b, endpoint: e}\n",
            "m.yaml:3:39: 'provider: s4' is unknown (known: directory, s3); did you mean 's3'?"),
        Wrong(
            "no provider", "version: 1\nmounts:\n  - {name: a, path: /mnt/a, bucket: b}\n",
            "m.yaml:3:5: a mount has no 'provider'"),
        Wrong(
            "a size without a unit", "version: 1\nmemory: 512\nmounts:\n\(mount)",
            "m.yaml:2:9: 'memory: 512' has no unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB); did you mean '512MiB'?"),
        Wrong(
            "a size with half a unit", "version: 1\nmemory: 512M\nmounts:\n\(mount)",
            "m.yaml:2:9: 'memory: 512M' has the unknown unit 'M' (known: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB); did you mean '512MiB'?"
        ),
        Wrong(
            "a duration in words", Fixtures.withMount("    cache: {metadata_ttl: 10 minutes, negative_ttl: soon}\n"),
            "m.yaml:7:27: 'metadata_ttl: 10 minutes' has the unknown unit 'minutes' (known: ms, s, m, h, d), such as 30s",
            "m.yaml:7:53: 'negative_ttl: soon' is not a duration such as 30s"),
        Wrong(
            "a boolean of old YAML", Fixtures.withMount("    read_only: yes\n    allow_other: \"true\"\n"),
            "m.yaml:7:16: 'read_only: yes' is neither true nor false; did you mean true?",
            "m.yaml:8:18: 'allow_other: \"true\"' is neither true nor false; did you mean true?"),
        Wrong(
            "a path that no kernel takes",
            Fixtures.good + "cache: { directory: /" + String(repeating: "x/", count: 2100) + " }\n",
            "m.yaml:7:21: 'directory: /" + String(repeating: "x/", count: 28) + "…' is longer than 4095 bytes"),
        Wrong(
            "numbers that are none", Fixtures.withMount("    uid: -1\n    gid: staff\n    umask: 888\n"),
            "m.yaml:7:10: 'uid: -1' is not a whole number", "m.yaml:8:10: 'gid: staff' is not a whole number",
            "m.yaml:9:12: 'umask: 888' is not an octal number such as \"022\""),
        Wrong(
            "an unknown choice", Fixtures.withMount("    cache: {freshness: allways}\n"),
            "m.yaml:7:24: 'freshness: allways' is unknown (known: ttl, open, always); did you mean 'always'?"),
        Wrong(
            "wrong kinds", Fixtures.withMount("    read_only: [true]\n    umask: {a: b}\n    prefix:\n"),
            "m.yaml:7:16: 'read_only' must be true or false, found a list",
            "m.yaml:8:12: 'umask' must be text, found a mapping", "m.yaml:9:12: 'prefix' has no value"),
        Wrong(
            "a name with a space",
            "version: 1\nmounts:\n  - {name: my photos, path: /mnt/a, provider: directory, bucket: /srv/a}\n",
            "m.yaml:3:12: 'name: my photos' is not a name: letters, digits, '.', '_' and '-' make one"),
        Wrong(
            "paths that are not absolute",
            "version: 1\ncache: {directory: cache}\nmounts:\n  - {name: a, path: ../a, provider: directory, bucket: /srv/a}\n",
            "m.yaml:2:20: 'directory: cache' is not an absolute path; did you mean '/cache'?",
            "m.yaml:4:21: 'path: ../a' is not an absolute path"),
        Wrong(
            "a path with '..'",
            "version: 1\nmounts:\n  - {name: a, path: /mnt/../a, provider: directory, bucket: /srv/a}\n",
            "m.yaml:3:21: 'path: /mnt/../a' has '..' in it"),
        Wrong(
            "an empty bucket", "version: 1\nmounts:\n  - {name: a, path: /mnt/a, provider: directory, bucket: \"\"}\n",
            "m.yaml:3:58: 'bucket' is empty"),
        Wrong(
            "URLs",
            "version: 1\nmounts:\n  - {name: a, path: /mnt/a, provider: s3, bucket: b, credentials: c, endpoint: s3.example.com}\n"
                + "  - {name: b, path: /mnt/b, provider: s3, bucket: b, credentials: c, endpoint: \"https://u:p@h\"}\n"
                + "credentials: {c: {provider: s3, access_key_id: k, secret_access_key: s}}\n",
            "m.yaml:3:80: 'endpoint: s3.example.com' is not a URL that begins with https:// or http://",
            "m.yaml:4:80: 'endpoint' has a user or a password in it; secrets belong in credentials"),
    ]

    static let whole = [
        Wrong(
            "two mounts of one name and path", "version: 1\nmounts:\n\(mount)\(mount)",
            "m.yaml:4:12: two mounts are called 'a'; the first is on line 3",
            "m.yaml:4:21: the path /mnt/a is taken by the mount 'a' on line 3"),
        Wrong(
            "mounts inside each other",
            "version: 1\nmounts:\n\(mount)  - {name: b, path: /mnt/a/b, provider: directory, bucket: /b}\n"
                + "  - {name: c, path: /mnt/, provider: directory, bucket: /b}\n",
            "m.yaml:4:21: the path /mnt/a/b lies inside the mount 'a' (/mnt/a, line 3)",
            "m.yaml:5:21: the path /mnt would hide the mount 'a' (/mnt/a, line 3)",
            "m.yaml:5:21: the path /mnt would hide the mount 'b' (/mnt/a/b, line 4)"),
        Wrong(
            "a path that begins alike is no clash but the root is",
            "version: 1\nmounts:\n\(mount)  - {name: b, path: /mnt/ab, provider: directory, bucket: /b}\n"
                + "  - {name: c, path: /, provider: directory, bucket: /b}\n",
            "m.yaml:5:21: 'path: /' would hide the whole system",
            "m.yaml:5:21: the path / would hide the mount 'a' (/mnt/a, line 3)",
            "m.yaml:5:21: the path / would hide the mount 'b' (/mnt/ab, line 4)"),
        Wrong(
            "the daemon's own files under a mount",
            "version: 1\ncache: {directory: /mnt/a/cache}\ncontrol: {socket: /mnt/a/s}\nmounts:\n\(mount)",
            "m.yaml:5:21: the path /mnt/a would hide the cache directory /mnt/a/cache",
            "m.yaml:5:21: the path /mnt/a would hide the control socket /mnt/a/s"),
        Wrong(
            "credentials that are missing, unknown, foreign or unwanted",
            """
            version: 1
            credentials:
              work: {provider: s3, access_key_id: k}
            mounts:
              - {name: a, path: /mnt/a, provider: s3, bucket: b}
              - {name: b, path: /mnt/b, provider: s3, bucket: b, credentials: wrok}
              - {name: c, path: /mnt/c, provider: directory, bucket: /c, credentials: work}
              - {name: d, path: /mnt/d, provider: s3, bucket: b, credentials: {provider: directory}}
            """,
            "m.yaml:3:9: credentials has no 'secret_access_key'",
            "m.yaml:5:5: a mount of provider 's3' needs 'credentials'",
            "m.yaml:6:67: there are no credentials 'wrok'; did you mean 'work'?",
            "m.yaml:7:75: the provider 'directory' takes no credentials",
            "m.yaml:8:67: these credentials are for provider 'directory', the mount's is 's3'"),
        Wrong(
            "policies in a circle, unknown or built in",
            """
            version: 1
            policies:
              a: {extends: b}
              b: {extends: c}
              c: {extends: a}
              d: {extends: medai}
              e: {extends: e}
              media: {}
            mounts:
              - {name: a, path: /mnt/a, provider: directory, bucket: /a, cache: phots}
            """,
            "m.yaml:3:16: the policy 'a' extends itself: a → b → c → a",
            "m.yaml:6:16: there is no policy 'medai'; did you mean 'media'?",
            "m.yaml:7:16: the policy 'e' extends itself: e → e",
            "m.yaml:8:3: the policy 'media' is built in; give this one another name",
            "m.yaml:10:69: there is no policy 'phots'"),
        Wrong(
            "what only the provider sees",
            "version: 1\nmounts:\n  - {name: a, path: /mnt/a, provider: s3, bucket: b_c, credentials: {access_key_id: k, secret_access_key: s}}\n",
            "m.yaml:3:51: 'bucket' is not the name of a bucket"),
        Wrong(
            "limits", Fixtures.withMount("    prefix: /x\n    cache: {deadline: 10ms}\nmemory: 1MiB\n"),
            "m.yaml:7:13: 'prefix: /x' begins with '/'; keys do not", "m.yaml:8:23: 'deadline' must be 1s or more",
            "m.yaml:9:9: 'memory' must be 32MiB or more"),
        Wrong(
            "many faults at once",
            "version: 1\nmemory: lots\nmounts:\n  - {name: a, path: mnt, provider: directory, bukket: /a}\n  - nothing\n",
            "m.yaml:2:9: 'memory: lots' is not a size such as 64MiB",
            "m.yaml:4:5: a mount has no 'bucket'",
            "m.yaml:4:21: 'path: mnt' is not an absolute path; did you mean '/mnt'?",
            "m.yaml:4:47: unknown key 'bukket' in a mount of provider 'directory'; did you mean 'bucket'?",
            "m.yaml:5:5: a mount must be a mapping, found text"),
    ]

    static let syntax = [
        Wrong(
            "a tab", "version: 1\nmounts:\n\t- name: a\n",
            "m.yaml:3:1: a tab; YAML is indented with spaces, near 'name:'"),
        Wrong(
            "a brace that is not closed", "version: 1\ncache: { directory: /c\nmounts: []\n",
            "m.yaml:3:7: '{' of 2:8 is not closed, or a ',' is missing, near 'mounts:'"),
        Wrong(
            "a quote that is not closed", "version: 1\ncache:\n  directory: \"/c\n",
            "m.yaml:3:14: the quote that opens here is never closed, near 'directory:'"),
        Wrong(
            "a value that looks like a mapping", "version: 1\nmemory: a: b\n",
            "m.yaml:2:10: a ':' that makes no key here; check the indentation, or put the value in quotes, near 'memory:'"
        ),
        Wrong(
            "a reserved character", "version: 1\nmemory: @home\n",
            "m.yaml:2:9: a value cannot begin with '@'; put it in quotes, near 'memory:'"),
        Wrong(
            "a line that does not line up", "version: 1\nmounts:\n  - name: a\n   path: /a\n",
            "m.yaml:4:4: this does not line up with the list that began at 3:3, near 'path:'"),
        Wrong(
            "two documents", "version: 1\n---\nversion: 1\n",
            "m.yaml:2:1: a second document begins here; the file holds one"),
        Wrong(
            "an alias without its anchor", "version: 1\nmounts: *mine\n",
            "m.yaml:2:9: the alias '*mine' has no anchor '&mine' before it"),
        Wrong("a key that is a list", "[a, b]: c\n", "m.yaml:1:1: a key must be text, found a list"),
        Wrong("a tag", "version: !int 1\n", "m.yaml:1:10: the tag '!int' means nothing here"),
        Wrong("a merge of text", "version: 1\n<<: text\n", "m.yaml:2:5: '<<' takes a mapping or a list of mappings"),
        Wrong(
            "a control character", "version: 1\nmemory: \u{1}\n",
            "m.yaml:2:9: not YAML: control characters are not allowed"),
    ]
}
