import Foundation
import Glibc
import TestServers
import Testing

extension MountTests {
    /// The Debian package and the tarball, made of the built binary; installed over a layer that vanishes with the test.
    @Suite("Packages", .serialized)
    struct Packages {
        /// Where a debug build finds Swift's own libraries; a release build has them in itself.
        private static func swiftLibraries() async throws -> String {
            let linked = try await ChildProcess.output(of: ["ldd", MountFixture.binary])
            let line = linked.split(separator: "\n").first { $0.contains("libswiftCore.so => /") }
            guard let path = line?.split(separator: " ").first(where: { $0.hasPrefix("/") }) else { return "" }
            return path.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
        }

        private func make(_ kind: String, in folder: String, version: String? = nil) async throws -> String {
            var environment = ["SWIFT_LIBRARIES": try await Self.swiftLibraries()]
            environment["VERSION"] = version
            return try await ChildProcess.output(
                of: ["\(Tools.packageRoot)/packaging/\(kind).sh", MountFixture.binary, folder],
                environment: environment,
                seconds: 300
            ).trimmingCharacters(in: .whitespacesAndNewlines)
        }

        @Test(
            "lintian finds nothing, completions and manual pages are what their readers take, and every command has a page"
        )
        func contents() async throws {
            let folder = try TemporaryFolder("package")
            let package = try await make("deb", in: folder.path)
            let lintian = try await ChildProcess.run(
                ["lintian", "--fail-on", "error,warning", "--allow-root", package], seconds: 300)
            #expect(lintian.succeeded && !lintian.output.contains(": "), "\(lintian)")
            let script = #"""
                set -euo pipefail
                cd "$FOLDER"; dpkg-deb -x "$PACKAGE" root; cd root/usr/share
                bash -n bash-completion/completions/cloudmount
                zsh -n zsh/vendor-completions/_cloudmount
                fish --no-execute fish/vendor_completions.d/cloudmount.fish
                for page in man/man?/*.gz; do
                    zcat "$page" | groff -man -Tutf8 -ww -z > warnings 2>&1
                    [ ! -s warnings ] || { echo "$page"; cat warnings; exit 1; }
                done
                for command in $("$BINARY" --experimental-dump-help | python3 -c '
                import json, sys
                print(*(c["commandName"] for c in json.load(sys.stdin)["command"]["subcommands"] if c["commandName"] != "help"))'); do
                    [ -s "man/man1/cloudmount-$command.1.gz" ] || { echo "no page of $command"; exit 1; }
                    grep -q "$command" bash-completion/completions/cloudmount
                done
                cmp doc/cloudmount/examples/mounts.yaml "$ROOT/mounts.yaml"
                if readelf -S ../bin/cloudmount | grep '[.]symtab'; then exit 1; fi
                if readelf -d ../bin/cloudmount | grep -i '(r.*path)'; then exit 1; fi
                [ "$(readlink ../sbin/mount.cloudmount)" = ../bin/cloudmount ]
                """#
            _ = try await ChildProcess.output(
                of: ["bash", "-c", script],
                environment: [
                    "FOLDER": folder.path, "PACKAGE": package, "BINARY": MountFixture.binary, "ROOT": Tools.packageRoot,
                ], seconds: 120)
        }

        @Test("The tarball has the same files, and is made without root")
        func tarball() async throws {
            let folder = try TemporaryFolder("package")
            let archive = try await make("tarball", in: folder.path)
            let names = try await ChildProcess.output(of: ["tar", "-tzf", archive])
            for name in [
                "usr/bin/cloudmount", "usr/sbin/mount.cloudmount", "README.md", "usr/lib/sysusers.d/cloudmount.conf",
                "usr/share/man/man1/cloudmount-mount.1.gz", "lib/systemd/system/cloudmount.service",
            ] {
                #expect(names.contains(name), "\(name)")
            }
        }

        /// A layer over the root, in which nothing that is installed stays.
        private static let installation = #"""
            set -euo pipefail
            mount -t tmpfs layer "$FOLDER/layer"
            mkdir "$FOLDER/layer/upper" "$FOLDER/layer/work" "$FOLDER/layer/root"
            mount -t overlay -o "lowerdir=/,upperdir=$FOLDER/layer/upper,workdir=$FOLDER/layer/work" over "$FOLDER/layer/root"
            R=$FOLDER/layer/root
            for place in /proc /dev /sys; do mount --bind $place $R$place; done
            mount -t tmpfs run $R/run
            cp "$FOLDER"/*.deb $R/root/
            cat > $R/root/inside.sh << 'END'
            set -euo pipefail
            cd /root
            export LD_LIBRARY_PATH=$SWIFT_LIBRARIES
            install() { dpkg --force-unsafe-io --force-depends --no-triggers -i "$1" > dpkg.log 2>&1 || { cat dpkg.log; exit 1; }; }
            printf 'PRUNE_BIND_MOUNTS="yes"\nPRUNEFS="NFS nfs"\n' > /etc/updatedb.conf
            install cloudmount_0.1.0_*.deb
            grep -q '^PRUNEFS="NFS nfs fuse.cloudmount"$' /etc/updatedb.conf
            getent group cloudmount > /dev/null
            [ "$(stat -c '%a %G' /etc/cloudmount)" = '750 cloudmount' ]
            [ "$(stat -c %a /run/cloudmount /var/cache/cloudmount | tr '\n' ' ')" = '700 700 ' ]
            mkdir -p /srv/trial /mnt/trial
            printf '%s\n' 'version: 1' 'cache: { keep_free: 1MiB }' 'mounts:' \
                '  - { name: trial, path: /mnt/trial, provider: directory, bucket: /srv/trial }' > /etc/cloudmount/mounts.yaml
            cloudmount mount --detach
            pid=$(cloudmount status --json | sed -n 's/^ *"pid" *: *\([0-9]*\).*/\1/p')
            trap 'kill -9 $pid 2> /dev/null || true' EXIT
            echo before > /mnt/trial/file
            exec 7< /mnt/trial/file
            # Upgraded: what runs goes on, open files too.
            install cloudmount_0.2.0_*.deb
            [ "$(cat <&7)" = before ]
            echo after > /mnt/trial/other
            [ "$(cat /srv/trial/other)" = after ]
            cloudmount status > /dev/null
            exec 7<&-
            cloudmount unmount --all
            # Bytes that no store has survive a purge, so does what nobody could look into, and a daemon that goes on.
            for cache in kept doubt; do
                mkdir -p -m 700 /var/cache/cloudmount-$cache/staged; : > /var/cache/cloudmount-$cache/lock
            done
            echo x > /var/cache/cloudmount-kept/staged/bytes
            : > /var/cache/cloudmount-doubt/state.sqlite.damaged-1
            mkdir /mnt/own
            cloudmount mount file:///srv/trial /mnt/own --detach --name own
            own=$(cloudmount status --json own | sed -n 's/^ *"pid" *: *\([0-9]*\).*/\1/p')
            trap 'kill -9 $pid $own 2> /dev/null || true' EXIT
            dpkg --force-unsafe-io --no-triggers --purge cloudmount > dpkg.log 2>&1 || { cat dpkg.log; exit 1; }
            [ -s /var/cache/cloudmount-kept/staged/bytes ]
            [ -e /var/cache/cloudmount-doubt/lock ] && [ -e /var/cache/cloudmount-own/lock ]
            [ -S /run/cloudmount/mount-own.sock ] && [ "$(cat /mnt/own/file)" = before ]
            umount /mnt/own
            [ ! -e /var/cache/cloudmount ]
            [ ! -e /usr/bin/cloudmount ]
            [ -e /etc/cloudmount/mounts.yaml ]
            grep -q '^PRUNEFS="NFS nfs"$' /etc/updatedb.conf
            END
            chroot $R bash /root/inside.sh
            """#

        @Test("The package is installed, mounts, is upgraded under open files, and is purged")
        func installation() async throws {
            try #require(geteuid() == 0, "only root installs")
            let folder = try TemporaryFolder("package")
            _ = try await make("deb", in: folder.path)
            _ = try await make("deb", in: folder.path, version: "0.2.0")
            _ = try await ChildProcess.output(of: ["mkdir", "\(folder.path)/layer"])
            _ = try await ChildProcess.output(
                of: ["unshare", "-m", "--propagation", "private", "bash", "-c", Self.installation],
                environment: ["FOLDER": folder.path, "SWIFT_LIBRARIES": try await Self.swiftLibraries()], seconds: 300)
        }
    }
}
