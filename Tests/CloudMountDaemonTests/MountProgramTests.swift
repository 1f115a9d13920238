import Glibc
import Testing

@testable import CloudMountDaemon

@Suite("What mount(8) calls")
struct MountProgramTests {
    @Test("it is known by its name, or by a source of ours, and takes the options of mount(8)")
    func arguments() {
        let called = MountProgram(
            arguments: [
                "/sbin/mount.fuse.cloudmount", "cloudmount:a", "/mnt/a", "-s", "-o", "ro,nosuid", "-o", "remount",
            ])
        #expect(called?.path == "/mnt/a" && called?.options == ["ro", "nosuid", "remount"])
        let plain = MountProgram(arguments: ["cloudmount", "cloudmount:a", "/mnt/a", "-o", "remount,ro"])
        #expect(plain?.options == ["remount", "ro"])
        let line = MountProgram(arguments: ["mount.cloudmount", "photos", "/mnt/p", "-sf", "-o", "ro,_netdev"])
        #expect(line?.source == "photos" && line?.path == "/mnt/p" && line?.isFake == true && line?.isRemount == false)
        #expect(MountProgram(arguments: ["mount.cloudmount", "a", "/b", "-n", "-o", "rw,fast"])?.isFake == false)
        for other in [["cloudmount"], ["cloudmount", "status"], ["cloudmount", "mount", "cloudmount:a"], []] {
            #expect(MountProgram(arguments: other)?.path == nil)
        }
    }

    @Test("what is no remount, or of nothing that is mounted, fails as mount(8) expects it")
    func refusals() {
        func run(_ arguments: [String]) -> (status: Int32, message: String?)? {
            MountProgram(arguments: ["mount.fuse.cloudmount"] + arguments)?.run(environment: [:])
        }
        #expect(run(["cloudmount:a", "/tmp", "-o", "rw"])?.status == 1)
        #expect(run(["cloudmount:a"])?.status == 1)
        #expect(run(["cloudmount:a", "/nowhere/at/all", "-o", "remount,ro"])?.status == 32)
    }

    @Test("the daemon of another user is looked for where that user's is")
    func sockets() {
        let other = geteuid() + 1
        #expect(
            MountProgram.socket(owner: other, environment: ["XDG_RUNTIME_DIR": "/mine"])
                == "/run/user/\(other)/cloudmount/control.sock")
        let mine = MountProgram.socket(owner: geteuid(), environment: ["XDG_RUNTIME_DIR": "/mine"])
        #expect(mine == (geteuid() == 0 ? "/run/cloudmount/control.sock" : "/mine/cloudmount/control.sock"))
    }
}
