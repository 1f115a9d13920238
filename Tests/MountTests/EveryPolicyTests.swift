import TestServers
import Testing

@testable import CloudMountConfig

/// What ordinary programs do, in every cache policy that exists, on native B2 and on S3.
extension MountTests {
    @Suite("Every policy")
    struct EveryPolicy {
        /// The built-in policies, and the strictest that settings can make.
        static let policies: [String] =
            PolicyTable.builtin.map(\.name) + ["{ extends: strict, data: off }"]

        static let stores: [Store] = Store.everyday.filter { $0 != .folder }

        @Test(
            "Trees, git, SQLite, rsync, editors, renames and attributes, also after a remount",
            arguments: stores, policies)
        func programs(store: Store, policy: String) async throws {
            try await MountFixture.use(store, "cache: \(policy)") { mount in
                try await mount.shell(Self.use, seconds: 300)
                try await mount.python(Self.editAndName)
                try await mount.python(Self.attributes)
                try await mount.shell(Self.check)
                try await mount.remount()
                try await mount.python(Self.attributesAgain)
                try await mount.shell(Self.check)
                // What another client wrote is seen once nothing is believed any more that was known before.
                try await mount.stop()
                try await mount.bucket.put("from outside", "written elsewhere\n")
                try await mount.start()
                #expect(try await mount.command("refresh", "m").succeeded)
                try await mount.shell("test \"$(cat 'from outside')\" = 'written elsewhere'; rm 'from outside'")
                try await mount.shell("rm -r copy renamed clone a.db big attributes && ls -A", seconds: 120)
                #expect(try await mount.bucket.keys() == ["note.txt", "ödd names/ü +%&?#'\".txt"])
            }
        }

        private static let use = """
            python3 - "$W/tree" <<'EOF'
            import os, random, sys
            random.seed(3)
            for number in range(6):
                folder = f"{sys.argv[1]}/d{number % 3}/e{number}"
                os.makedirs(folder)
                for file in range(8):
                    with open(f"{folder}/file {file}", "wb") as out:
                        out.write(random.randbytes(random.choice([0, 1, 1000, 5000, 40000])))
                    os.utime(f"{folder}/file {file}", (1_600_000_000, 1_600_000_000 + file))
                os.symlink("file 0", f"{folder}/link")
            EOF
            cp -a $W/tree copy && diff -r --no-dereference $W/tree copy
            rsync -a $W/tree/ renamed.old/ && test -z "$(rsync -aO --itemize-changes $W/tree/ renamed.old/)"
            mv renamed.old renamed && ! test -e renamed.old

            git init -q -b main $W/origin
            for i in $(seq 10); do echo "file $i" > $W/origin/f$i; done
            git -C $W/origin add . && git -C $W/origin commit -qm one
            git clone -q --no-local $W/origin clone
            echo change >> clone/f1 && git -C clone commit -qam two && git -C clone gc -q

            for mode in delete wal; do
                sqlite3 a.db "PRAGMA journal_mode=$mode; CREATE TABLE t_$mode(id INTEGER PRIMARY KEY, body TEXT);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                INSERT INTO t_$mode SELECT i, hex(randomblob(100)) FROM n;" >/dev/null
                sqlite3 a.db "DELETE FROM t_$mode WHERE id % 2 = 0; VACUUM;"
            done

            head -c 20000000 /dev/urandom > $W/big && cp $W/big big
            for f in big $W/big; do
                printf changed | dd of=$f bs=1 seek=10000003 conv=notrunc status=none
                printf tail >> $f
            done
            """

        private static let check = """
            diff -r --no-dereference $W/tree copy
            diff -r --no-dereference $W/tree renamed
            test -z "$(rsync -aO --itemize-changes $W/tree/ renamed/)"
            git -C clone fsck --full --strict && test -z "$(git -C clone status --porcelain)"
            test "$(sqlite3 a.db 'PRAGMA integrity_check; SELECT count(*) FROM t_wal; SELECT count(*) FROM t_delete;')" \\
                = "$(printf 'ok\\n200\\n200')"
            cmp big $W/big
            """

        private static let editAndName = """
            write("note.txt", b"0")
            for number in range(1, 10):
                text = f"revision {number}\\n".encode() * number
                if number % 3 == 0:
                    os.rename("note.txt", "note.txt~"); write("note.txt", text); os.unlink("note.txt~")
                else:
                    with open(".note.swp", "wb") as file:
                        file.write(text); file.flush(); os.fsync(file.fileno())
                    os.rename(".note.swp", "note.txt")
                assert read("note.txt") == text
            os.mkdir("ödd names"); write("ödd names/ü +%&?#'\\".txt", b"odd")
            """

        private static let attributes = """
            os.mkdir("attributes")
            write("attributes/file", b"content")
            os.chmod("attributes/file", 0o640); os.chown("attributes/file", 1234, 2345)
            os.setxattr("attributes/file", "user.note", "wörd".encode())
            os.utime("attributes/file", ns=(1_500_000_000_123456789, 1_500_000_000_123456789))
            os.symlink("file", "attributes/link")
            write("attributes/script", b"#!/bin/sh\\n"); os.chmod("attributes/script", 0o755)
            with open("attributes/script", "ab") as file: file.write(b"echo ran\\n")
            """

        private static let attributesAgain = """
            seen = os.stat("attributes/file")
            assert stat.S_IMODE(seen.st_mode) == 0o640, oct(seen.st_mode)
            assert (seen.st_uid, seen.st_gid) == (1234, 2345), seen
            assert seen.st_mtime_ns == 1_500_000_000_123456789, seen.st_mtime_ns
            assert os.getxattr("attributes/file", "user.note").decode() == "wörd"
            assert os.readlink("attributes/link") == "file" and read("attributes/link") == b"content"
            assert os.popen("./attributes/script").read() == "ran\\n"
            assert read("ödd names/ü +%&?#'\\".txt") == b"odd"
            assert read("note.txt") == b"revision 9\\n" * 9
            """
    }
}
