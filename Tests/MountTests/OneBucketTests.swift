import Glibc
import TestServers
import Testing

extension MountTests {
    /// Commands as the manual has them, without a file that somebody wrote, in the background, and as mount(8) calls them.
    @Suite("One bucket, and the background", .serialized)
    struct OneBucket {
        private static let preamble = #"""
            set -euo pipefail
            cd "$FOLDER"; mkdir -p src m other home
            export HOME=$FOLDER/home CLOUDMOUNT_CONFIG=$FOLDER/etc/mounts.yaml
            export NAME=t$$ TMPDIR=$FOLDER/tmp; unset XDG_RUNTIME_DIR EDITOR VISUAL; mkdir tmp
            cloudmount() { timeout 60 "$BINARY" "$@"; }
            finish() {
                for pid in $(cat "$FOLDER"/*.pid 2> /dev/null); do kill $pid 2> /dev/null || true; done
                for path in m other m2; do umount -l "$FOLDER/$path" 2> /dev/null || true; done
                rm -rf /var/cache/cloudmount-$NAME
            }
            trap finish EXIT
            # The daemon that serves a mount, to be ended with the test.
            note() { cloudmount status --json "$@" 2> /dev/null | sed -n 's/^ *"pid" *: *\([0-9]*\).*/\1/p' > "$FOLDER/$NAME$RANDOM.pid" || true; }
            not() { if "$@"; then echo "done: $*"; exit 1; fi; }
            fails() { local code=$1; shift; local rc=0; "$@" > out 2>&1 || rc=$?; [ $rc = $code ] || { echo "$*: $rc: $(cat out)"; exit 1; }; }

            """#

        func run(_ script: String) async throws {
            let folder = try TemporaryFolder("one")
            _ = try await ChildProcess.output(
                of: ["bash", "-c", Self.preamble + script],
                environment: ["FOLDER": folder.path, "BINARY": MountFixture.binary], seconds: 180)
        }

        @Test("A bucket is mounted by its URL in the background, found by its name and path, and ends with umount")
        func background() async throws {
            try await run(
                #"""
                cloudmount mount file://$FOLDER/src ./m --detach --name $NAME --cache small-files
                note $NAME
                mountpoint -q m
                echo hello > m/file
                [ "$(cat src/file)" = hello ]
                cloudmount status $NAME | grep -q mounted
                cloudmount status ./m | grep -q mounted
                cloudmount wait $NAME --timeout 5s
                cloudmount sync ./m
                [ ! -e etc ]
                fails 3 cloudmount status
                fails 3 cloudmount wait --timeout 1s
                umount m
                for i in $(seq 100); do cloudmount status $NAME > /dev/null 2>&1 || [ $? != 3 ] || break; sleep 0.1; done
                fails 3 cloudmount status $NAME
                # Read-only, and unmounted by command.
                cloudmount mount file://$FOLDER/src m --detach --name $NAME --read-only
                note $NAME
                not touch m/other 2> /dev/null
                cloudmount unmount ./m
                not mountpoint -q m
                """#)
        }

        @Test(
            "--save writes the mount into the file, and whoever serves the file serves it too; the exit code says what is not well"
        )
        func save() async throws {
            try await run(
                #"""
                mkdir etc
                printf '%s\n' '# mine' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" \
                    "control: { socket: $FOLDER/socket }" 'mounts:' '  # none yet' > etc/mounts.yaml
                cloudmount mount file://$FOLDER/src $FOLDER/m --save --detach --name a
                note
                mountpoint -q m
                cloudmount check > /dev/null
                head -1 etc/mounts.yaml | grep -q '# mine'
                cloudmount status
                cloudmount mount file://$FOLDER/src $FOLDER/other --save --name b --read-only
                mountpoint -q other
                [ $(grep -c 'name: [ab],' etc/mounts.yaml) = 2 ]
                # One that cannot come up.
                fails 1 cloudmount mount file://$FOLDER/none $FOLDER/m2 --save --name c
                grep -q 'c: .*cannot be opened' out
                fails 1 cloudmount status
                fails 1 cloudmount wait --timeout 500ms
                grep -q '^c: failed: .*cannot be opened' out
                fails 1 cloudmount status c
                cloudmount status a
                fails 1 cloudmount mount --detach
                grep -q '^c: failed: ' out
                mkdir none
                cloudmount wait c --timeout 30s
                cloudmount mount --detach
                cloudmount unmount --all
                """#)
        }

        @Test("add, remove and edit change the file in place and the daemon with it; what is wrong changes nothing")
        func editing() async throws {
            try await run(
                #"""
                mkdir etc
                printf '%s\n' '# mine' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" \
                    "control: { socket: $FOLDER/socket }" 'mounts:' \
                    "  - { name: a, path: $FOLDER/m, provider: directory, bucket: $FOLDER/src } # first" > etc/mounts.yaml
                cp etc/mounts.yaml before
                cloudmount mount --detach
                note
                # Added and removed, and the file as it was.
                cloudmount add b file://$FOLDER/src $FOLDER/other --read-only
                mountpoint -q other; ! touch other/x 2> /dev/null
                cmp before etc/mounts.yaml.bak
                fails 78 cloudmount add b file://$FOLDER/src $FOLDER/m2
                grep -q "two mounts are called 'b'" out
                fails 2 cloudmount add c gs://bucket $FOLDER/m2
                fails 78 cloudmount remove c
                grep -q "there is no mount 'c'; it has a, b" out
                # In use: it stays until it is not.
                exec 3< other
                cloudmount remove b | grep -q '^b: pending'
                exec 3<&-
                for i in $(seq 100); do mountpoint -q other || break; sleep 0.1; done
                not mountpoint -q other
                cmp before etc/mounts.yaml
                # Edited: nothing, something wrong (the copy is kept), something right.
                EDITOR=true cloudmount edit 2>&1 | grep -q 'nothing has changed'
                export EDITOR="sed -i s/first/second/;false"
                fails 1 cloudmount edit
                EDITOR="sed -i s/provider/colour/" fails 78 cloudmount edit
                grep -q "etc/mounts.yaml:6:" out; grep -q 'the copy is kept in' out
                copy=$(sed -n 's/.*the copy is kept in //p' out)
                grep -q colour "$copy"; [ $(stat -c %a "$copy") = 600 ]; rm -r "$(dirname "$copy")"
                cmp before etc/mounts.yaml
                cat > editor <<END
                #!/bin/sh
                [ "\$1" = -x ] && echo "  - { name: c, path: $FOLDER/other, provider: directory, bucket: $FOLDER/src }" >> "\$2"
                END
                chmod +x editor
                VISUAL="$FOLDER/editor -x" cloudmount edit > out
                grep -q '^c: would be added' out; grep -q '^c: added' out; grep -q '^a: kept' out
                mountpoint -q other
                cmp before etc/mounts.yaml.bak
                [ "$(ls tmp | wc -l)" = 1 ]
                # The last mounts, and with them the daemon.
                cloudmount remove c; cloudmount remove a
                grep -q '^mounts:$' etc/mounts.yaml
                for i in $(seq 100); do cloudmount status > /dev/null 2>&1 || [ $? != 3 ] || break; sleep 0.1; done
                fails 3 cloudmount status
                # Without a daemon, and without a file.
                cloudmount add a file://$FOLDER/src $FOLDER/m
                rm etc/mounts.yaml
                cloudmount add a file://$FOLDER/src $FOLDER/m
                [ $(stat -c %a etc/mounts.yaml) = 600 ]
                cloudmount check > /dev/null
                """#)
        }

        @Test("What is wrong with the words or the file ends at once, also with --detach, with the code for it")
        func wrong() async throws {
            try await run(
                #"""
                fails 2 cloudmount mount gs://bucket ./m --detach
                grep -q "no provider takes 'gs://'" out
                fails 2 cloudmount mount s3://bucket
                fails 2 cloudmount mount --save
                fails 2 cloudmount mount b2://bucket ./m --profile work
                grep -q "the provider 'b2' has no 'profile'" out
                fails 2 cloudmount mount s3://bucket ./m --option region
                fails 78 cloudmount mount s3://bucket ./m --option path_style=maybe --detach
                grep -q "^s3://bucket: 'path_style: .*maybe" out
                fails 78 cloudmount mount s3://bucket ./m --cache nothing --detach
                fails 78 cloudmount mount --detach
                [ ! -e etc ]
                fails 1 cloudmount mount file://$FOLDER/none ./m --detach --name $NAME --log-file $FOLDER/log
                note $NAME
                grep -q "cannot be opened" out
                grep -q "trying again" log
                cloudmount unmount $NAME
                """#)
        }

        @Test("mount(8) mounts by fstab's words, mount -a again does nothing, and umount ends it")
        func fstab() async throws {
            try await run(
                #"""
                mkdir etc
                printf '%s\n' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" "control: { socket: $FOLDER/socket }" 'mounts:' \
                    "  - { name: ${NAME}a, path: $FOLDER/m, provider: directory, bucket: $FOLDER/src }" \
                    "  - { name: ${NAME}b, path: $FOLDER/other, provider: directory, bucket: $FOLDER/src }" > etc/mounts.yaml
                ln -s "$BINARY" mount.cloudmount
                helper() { timeout 60 ./mount.cloudmount "$@"; }
                helper ${NAME}a $FOLDER/m -n -o rw,config=$FOLDER/etc/mounts.yaml,_netdev,x-systemd.automount
                note ${NAME}a
                mountpoint -q m; not mountpoint -q other
                helper ${NAME}a $FOLDER/m -o rw,config=$FOLDER/etc/mounts.yaml
                # Each line has a daemon of its own.
                helper ${NAME}b $FOLDER/other -o ro,config=$FOLDER/etc/mounts.yaml
                note ${NAME}b
                mountpoint -q other
                echo x > m/x; not touch other/y 2> /dev/null
                cloudmount status ./m; cloudmount status ${NAME}b
                umount m; umount other
                for mount in ${NAME}a ${NAME}b; do
                    for i in $(seq 100); do cloudmount status $mount > /dev/null 2>&1 || [ $? != 3 ] || break; sleep 0.1; done
                    fails 3 cloudmount status $mount
                done
                # A URL, and a dry run.
                helper file://$FOLDER/src $FOLDER/m -f -o ro
                not mountpoint -q m
                helper file://$FOLDER/src $FOLDER/m -o ro,name=$NAME,cache=media,config=$FOLDER/none.yaml
                note $NAME
                mountpoint -q m
                umount m
                fails 32 helper ${NAME}a $FOLDER/other -o config=$FOLDER/etc/mounts.yaml
                grep -q "the mount '${NAME}a' is at $FOLDER/m, not at $FOLDER/other" out
                fails 32 helper none $FOLDER/m -o config=$FOLDER/etc/mounts.yaml
                fails 1 helper ${NAME}a $FOLDER/m -o config=$FOLDER/etc/mounts.yaml,colour=red
                grep -q "colour" out
                fails 1 helper
                # One that does not come up is given up.
                rm -r src
                fails 32 helper ${NAME}a $FOLDER/m -o config=$FOLDER/etc/mounts.yaml
                for i in $(seq 100); do cloudmount status ${NAME}a > /dev/null 2>&1 || [ $? != 3 ] || break; sleep 0.1; done
                fails 3 cloudmount status ${NAME}a
                """#)
        }

        /// What systemd does for x-systemd.automount, in small.
        private static let automount = #"""
            import ctypes, fcntl, os, struct, subprocess
            F, B = os.environ["FOLDER"], os.environ["BINARY"]
            N = f"auto{os.getpid()}"
            os.chdir(F); os.mkdir("src"); os.mkdir("m")
            open("src/file", "w").write("hello")
            open("mounts.yaml", "w").write(f"""version: 1
            cache: {{ directory: {F}/cache, keep_free: 16MiB }}
            control: {{ socket: {F}/socket }}
            mounts:
              - {{ name: {N}, path: {F}/m, provider: directory, bucket: {F}/src }}
            """)
            os.symlink(B, "mount.cloudmount")
            libc = ctypes.CDLL(None, use_errno=True)
            ours, kernels = os.pipe()
            options = f"fd={kernels},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
            assert libc.mount(b"auto", b"m", b"autofs", 0, options.encode()) == 0, os.strerror(ctypes.get_errno())
            try:
                # As systemd: whoever is of our process group sees the empty folder, anybody else waits.
                control = os.open("m", os.O_RDONLY | os.O_DIRECTORY)
                reader = subprocess.Popen(["cat", f"{F}/m/file"], stdout=subprocess.PIPE, start_new_session=True)
                token = struct.unpack("iiI", os.read(ours, 1024)[:12])[2]
                mounted = subprocess.run(["./mount.cloudmount", N, f"{F}/m", "-o", f"rw,config={F}/mounts.yaml,_netdev"], timeout=90)
                fcntl.ioctl(control, 0x9360 if mounted.returncode == 0 else 0x9361, token)
                assert mounted.returncode == 0, mounted
                assert reader.communicate(timeout=60)[0] == b"hello"
            finally:
                os.close(control)
                subprocess.run([B, "unmount", N])
                subprocess.run(["umount", "-l", f"{F}/m"])
            """#

        @Test("A mount that autofs waits for comes up when somebody looks, and he who looked gets his file")
        func autofs() async throws {
            try #require(geteuid() == 0, "only root mounts autofs")
            let folder = try TemporaryFolder("automount")
            _ = try await ChildProcess.output(
                of: ["python3", "-c", Self.automount],
                environment: ["FOLDER": folder.path, "BINARY": MountFixture.binary], seconds: 180)
        }
    }
}
