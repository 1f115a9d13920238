import TestServers
import Testing

extension MountTests {
    @Suite("A log that nobody reads", .serialized)
    struct UnreadLog {
        /// A daemon whose standard error is a pipe of one page that nobody reads. Reloads that mount a bucket which is not there
        /// make it write some pages; then it is asked for its status, and a file is read through a mount.
        private static let script = #"""
            set -u
            cd "$FOLDER"; mkdir src good bad; echo kept > src/file; mkfifo log
            write() {
                printf '%s\n' 'version: 1' "cache: { directory: $FOLDER/cache }" "control: { socket: $FOLDER/socket }" 'mounts:' \
                    "  - { name: good, path: $FOLDER/good, provider: directory, bucket: $FOLDER/src, cache: { metadata_ttl: 0s } }" \
                    "  - { name: bad$1, path: $FOLDER/bad, provider: directory, bucket: $FOLDER/none$1 }" > mounts.yaml
            }
            write 1
            python3 -c 'import fcntl,os,time; f=os.open("log",os.O_RDONLY); fcntl.fcntl(f,1031,4096); time.sleep(600)' & reader=$!
            "$BINARY" mount -f mounts.yaml --log-level debug > /dev/null 2> log & daemon=$!
            finish() {
                kill $reader; kill $daemon
                for i in $(seq 300); do kill -0 $daemon 2> /dev/null || break; sleep 0.1; done
                kill -9 $daemon 2> /dev/null; umount -l good 2> /dev/null
            }
            trap finish EXIT
            for i in $(seq 600); do mountpoint -q good && break; sleep 0.1; done
            for i in $(seq 2 40); do
                write $i
                timeout 30 "$BINARY" reload -f mounts.yaml > out 2>&1
                [ $? != 124 ] || { echo "reload $i has no answer"; exit 1; }
            done
            timeout 30 "$BINARY" status -f mounts.yaml > out 2>&1 || [ $? != 124 ] || { echo "no status"; exit 1; }
            timeout 30 cat good/file
            """#

        @Test("A log that nobody reads blocks no mount, no command and not the end")
        func unread() async throws {
            let folder = try TemporaryFolder("mount")
            let output = try await ChildProcess.output(
                of: ["bash", "-c", Self.script],
                environment: ["FOLDER": folder.path, "BINARY": MountFixture.binary], seconds: 300)
            #expect(output == "kept\n")
        }
    }
}
