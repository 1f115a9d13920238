import Testing

extension MountTests.OneBucket {
    @Test("What runs already is taken for what was asked for only when it is the same")
    func sameName() async throws {
        try await run(
            #"""
            mkdir src2 etc
            cloudmount mount file://$FOLDER/src ./m --detach --name $NAME
            note $NAME
            cloudmount mount file://$FOLDER/src ./m --detach --name $NAME
            fails 1 cloudmount mount file://$FOLDER/src2 ./m --detach --name $NAME
            grep -q "another mount has the name '$NAME': it is directory $FOLDER/src at $FOLDER/m" out
            fails 1 cloudmount mount file://$FOLDER/src ./m --detach --name $NAME --read-only
            grep -q "'$NAME' is mounted already, and can be written to" out
            echo x > m/x
            [ "$(cat src/x)" = x ]
            # As mount(8) is called for it.
            ln -s "$BINARY" mount.cloudmount
            for words in file://$FOLDER/src2 "file://$FOLDER/src -o ro"; do
                set -- $words; url=$1; shift
                fails 32 timeout 60 ./mount.cloudmount $url $FOLDER/m "$@" -o name=$NAME,config=$FOLDER/etc/mounts.yaml
                mountpoint -q m
            done
            cloudmount unmount $NAME
            # Another file whose daemon would listen in the same place.
            for name in mounts other; do
                printf '%s\n' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" "control: { socket: $FOLDER/socket }" \
                    'mounts:' "  - { name: a, path: $FOLDER/m, provider: directory, bucket: $FOLDER/src }" > etc/$name.yaml
            done
            cloudmount mount --detach
            note
            fails 1 cloudmount mount -f etc/other.yaml --detach
            grep -q "serves the mounts of $FOLDER/etc/mounts.yaml, not those of $FOLDER/etc/other.yaml" out
            cloudmount unmount --all
            """#)
    }

    @Test("A line of fstab that says ro or noexec is so from the start, and one that fails takes nobody's mount")
    func fstabFlags() async throws {
        try await run(
            #"""
            mkdir etc
            printf '%s\n' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" "control: { socket: $FOLDER/socket }" 'mounts:' \
                "  - { name: ${NAME}a, path: $FOLDER/m, provider: directory, bucket: $FOLDER/src }" > etc/mounts.yaml
            ln -s "$BINARY" mount.cloudmount
            helper() { timeout 60 ./mount.cloudmount ${NAME}a $FOLDER/m "$@"; }
            ended() { for i in $(seq 100); do cloudmount status ${NAME}a > /dev/null 2>&1 || [ $? != 3 ] || return 0; sleep 0.1; done; false; }
            C=config=$FOLDER/etc/mounts.yaml
            # In use and writable: it stays so, and whoever asked for ro is told.
            helper -o rw,$C
            note ${NAME}a
            exec 8> m/open
            fails 32 helper -o ro,$C
            grep -q 'is mounted already, and can be written to' out
            mountpoint -q m
            echo more >&8
            exec 8>&-
            [ "$(cat src/open)" = more ]
            umount m; ended
            echo 'echo ran' > src/program; chmod 755 src/program
            helper -o ro,noexec,nosymfollow,nosuid,nodev,user=root,dirsync,nofail,$C
            note ${NAME}a
            cloudmount status --json ${NAME}a | grep -q '"read_only" *: *true'
            options=$(findmnt -no OPTIONS $FOLDER/m)
            for word in ro noexec nosuid nodev; do case ",$options," in *,$word,*) ;; *) echo "$options"; exit 1 ;; esac; done
            fails 1 touch m/y
            fails 126 ./m/program
            umount m; ended
            # The last word counts.
            helper -o noexec,ro,exec,rw,$C
            note ${NAME}a
            touch m/y
            case ",$(findmnt -no OPTIONS $FOLDER/m)," in *,noexec,*) exit 1 ;; esac
            fails 1 helper -o sync,$C
            umount m; ended
            """#)
    }

    @Test("The background holds no descriptor of its caller's, and hears how its own programs end")
    func inheritance() async throws {
        try await run(
            #"""
            exec 9> lock
            flock 9
            (trap '' CHLD; exec "$BINARY" mount file://$FOLDER/src ./m --detach --name $NAME)
            note $NAME
            exec 9>&-
            flock -n lock true
            pid=$(cloudmount status --json $NAME | sed -n 's/^ *"pid" *: *\([0-9]*\).*/\1/p')
            ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/$pid/status)
            [ $(( (0x$ignored >> 16) & 1 )) = 0 ]
            cloudmount unmount $NAME
            """#)
    }

    @Test(
        "sync and recover without a target reach the daemons that mounts have for themselves, and what these have left")
    func allDaemons() async throws {
        try await run(
            #"""
            mkdir etc
            printf '%s\n' 'version: 1' "cache: { directory: $FOLDER/cache, keep_free: 16MiB }" "control: { socket: $FOLDER/socket }" \
                'policies:' '  slow: { extends: default, write: back, write_delay: 1h }' 'mounts:' > etc/mounts.yaml
            F="-f $FOLDER/etc/mounts.yaml"
            fails 3 cloudmount sync $F
            cloudmount mount $F file://$FOLDER/src ./m --detach --name $NAME --cache slow
            note $NAME
            echo one > m/one
            [ ! -e src/one ]
            cloudmount sync $F
            [ "$(cat src/one)" = one ]
            cloudmount refresh $F
            echo two > m/two
            [ -z "$(cloudmount recover $F)" ]
            [ -z "$(cloudmount recover $F $NAME)" ]
            # Killed, and nobody starts it again.
            kill -9 $(cat $NAME*.pid)
            umount -l m
            flock cache-$NAME/lock true
            cloudmount recover $F > out
            grep -q "$NAME: two (4.* as written" out
            cloudmount recover $F $NAME two --to rescued | grep -q 'is the whole file as it was written, 4 bytes'
            [ "$(cat rescued)" = two ]
            fails 1 cloudmount recover $F $NAME three --to nowhere
            grep -q "nothing of the name 'three' is kept" out
            fails 1 cloudmount recover $F strange
            grep -q "there is no mount 'strange'" out
            fails 1 cloudmount recover --empty $FOLDER/cache-$NAME
            grep -q 'has what no store has' out
            cloudmount recover $F $NAME two --discard --yes
            [ -z "$(cloudmount recover $F)" ]
            cloudmount recover --empty $FOLDER/cache-$NAME
            rm -f /run/cloudmount/mount-$NAME.sock
            """#)
    }

    @Test("What a URL says is taken as it is: no variable and no file is put in its place, and no password is printed")
    func literalURLs() async throws {
        try await run(
            #"""
            mkdir 'src/${env:HOME}'
            echo here > 'src/${env:HOME}/file'
            cloudmount mount "file://$FOLDER/src/\${env:HOME}" ./m --detach --name $NAME
            note $NAME
            [ "$(cat m/file)" = here ]
            cloudmount unmount $NAME
            fails 78 cloudmount mount https://alice:secret@127.0.0.1/dav ./m --detach --name $NAME
            not grep -q secret out
            fails 2 cloudmount mount gs://alice:secret@127.0.0.1/dav ./m --detach
            not grep -q secret out
            """#)
    }
}
