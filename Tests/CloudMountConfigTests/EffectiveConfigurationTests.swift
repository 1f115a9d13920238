import CloudMountVFS
import Testing

@testable import CloudMountConfig

@Suite("The effective configuration")
struct EffectiveConfigurationTests {
    static let text = """
        version: 1
        cache:
          directory: /x/cm
          size: 20GiB
          keep_free: 1GiB
        memory: 144MiB
        control:
          socket: /x/s
        log:
          level: notice
          format: text
        mounts:
          - name: bench
            path: /tmp/mnt
            provider: s3
            bucket: "12 drums"
            prefix: a/b/
            endpoint: http://127.0.0.1:9310
            path_style: true
            part_size: 16MiB
            session: 90s
            customer_key: <hidden>
            credentials:
              provider: s3
              access_key_id: k
              secret_access_key: <hidden>
            cache:
              data: memory
              size: 0
              metadata_ttl: 10m
              negative_ttl: 1500ms
              freshness: ttl
              poll: 0s
              write: through
              write_delay: 1s
              sync: local
              prefetch: 128MiB
              deadline: 30s
              offline: fail
              on_conflict: keep-both
              exclusive_create: auto
              durable_attributes: true
            read_only: false
            allow_other: false
            acl: false
            uid: 1000
            gid: 100
            umask: "007"
            symlinks: follow
            exec: true
            nosymfollow: false
          - name: inbox
            path: /tmp/inbox
            provider: directory
            bucket: /srv/inbox
            cache: # strict
              data: memory
              size: 0
              metadata_ttl: 0s
              negative_ttl: 0s
              freshness: always
              poll: 0s
              write: through
              write_delay: 1s
              sync: local
              prefetch: 80MiB
              deadline: 30s
              offline: fail
              on_conflict: keep-both
              exclusive_create: auto
              durable_attributes: true
            read_only: true
            allow_other: false
            acl: false
            uid: 1000
            gid: 100
            umask: "022"
            symlinks: follow
            exec: true
            nosymfollow: false

        """

    @Test("it has every setting, and no secret")
    func golden() throws {
        let configuration = try Fixtures.load(
            """
            version: 1
            cache: { directory: /x/cm, size: 20GiB }
            control: { socket: /x/s }
            mounts:
              - name: bench
                path: /tmp/mnt
                provider: s3
                bucket: 12 drums
                prefix: a/b
                endpoint: http://127.0.0.1:9310
                path_style: true
                part_size: 16MiB
                session: 1m30s
                customer_key: hunter2
                credentials: { access_key_id: k, secret_access_key: hunter2 }
                cache: { extends: media, negative_ttl: 1.5s }
                umask: "007"
              - {name: inbox, path: /tmp/inbox, provider: directory, bucket: /srv/inbox, cache: strict, read_only: true}
            """)
        #expect(configuration.effectiveText == Self.text)
    }

    @Test("of a command there is the program's name alone")
    func commands() {
        #expect(Configuration.shown(command: "env VAULT_TOKEN=s.abc get-keys") == "env <hidden>")
        #expect(Configuration.shown(command: "TOKEN=s.abc") == "TOKEN <hidden>")
        #expect(Configuration.shown(command: "/usr/bin/keys") == "/usr/bin/keys")
        let provider = ProviderDescriptor(
            name: "p", summary: "", bucketMeaning: "",
            credentials: [OptionDescriptor("run", .string, "", isCommand: true)],
            make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })
        let text = """
            version: 1
            mounts:
              - { name: m, path: /mnt/m, provider: p, bucket: b, credentials: { provider: p, run: "env TOKEN=abc keys" } }
            """
        let configuration = try? Configuration.parse(
            Array(text.utf8), file: "m.yaml", providers: [provider],
            places: UserPlaces(environment: [:], uid: 0, gid: 0))
        #expect(configuration?.effectiveText.contains("run: \"env <hidden>\"") == true)
        #expect(configuration?.effectiveText.contains("abc") == false)
    }

    @Test("every setting of a policy that there is stands in it")
    func policies() throws {
        let text = try Fixtures.load(Self.text).effectiveText
        for setting in Grammar.policy.settings where !setting.isLater && setting.name != "extends" {
            #expect(text.contains("      \(setting.name): "), "\(setting.name)")
        }
    }

    @Test("read again, it means the same")
    func roundTrip() throws {
        let first = try Fixtures.load(Self.text)
        #expect(first.effectiveText == Self.text.replacing("cache: # strict", with: "cache:"))
    }
}
