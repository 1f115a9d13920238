import CloudMountCache
import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import MountHarness
import Testing

@testable import CloudMountFilesystem

/// The records of one mount in the journal.
@Suite("Records of what is not stored")
struct WriteLogTests {
    private let folder: ScratchFolder
    private let journal: Journal
    private let log: WriteLog

    init() throws {
        folder = try ScratchFolder("log")
        journal = try Journal(directory: folder.path)
        log = WriteLog(journal, hasMarks: true, mount: "test", store: "memory")
    }

    private func told(_ key: String) -> WriteLog.Told {
        let layers = SealedWrite.Layers(image: FileImage(size: 0, baseSize: 0), base: nil, staged: nil)
        let write = SealedWrite(
            mount: "test", key: ObjectKey(key), replaces: nil, attributes: StoredAttributes(), hasExplicitTime: false,
            layers: layers, nonce: ObjectMetadata.newNonce())
        return WriteLog.Told(
            write: JournaledWrite(
                write: write, marks: [], kin: [], since: Timestamp(seconds: 1), error: nil, unseen: nil), staged: nil)
    }

    @Test("A removal that failed is owed by nobody's file")
    func removalFails() async throws {
        #expect(try log.put(7) { told("f") })
        let ids = log.ids
        journal.close()
        #expect(await failure { () async throws(VFSError) in try await log.remove(7) } == .io)
        #expect(!log.has(7) && log.ids == ids)
    }

    @Test("A file that has lost its name to another is not put on record after that")
    func inherited() async throws {
        let (isSeen, goOn, isLost, looks) = (Gate(), Gate(), Gate(), Gate())
        let (log, before) = (log, told("f"))
        let putting = Task {
            await attempt { () async throws(VFSError) in
                try await BlockingPool.shared.run("test") { () throws(VFSError) in
                    try log.put(7) {
                        if isLost.isOpen { return nil }
                        // It looks once for the bytes, and once more for the record.
                        if looks.isOpen {
                            isSeen.open()
                            while !goOn.isOpen { usleep(1000) }
                        }
                        looks.open()
                        return before
                    }
                }
            }
        }
        await isSeen.wait()
        log.inherit(7, by: 8)
        isLost.open()
        goOn.open()
        #expect(try await putting.value.get() == false)
        #expect(try journal.ids(of: "test").isEmpty)
    }

    @Test("What was inherited goes, and no record that has come since")
    func inheritedGoes() async throws {
        #expect(try log.put(7) { told("f") })
        log.inherit(7, by: 8)
        #expect(try journal.ids(of: "test").count == 1)
        try await log.removeInherited(8)
        #expect(try journal.ids(of: "test").isEmpty && log.ids.isEmpty)
        #expect(try log.put(8) { told("f") })
        try await log.removeInherited(8)
        #expect(try log.has(8) && journal.ids(of: "test").count == 1)
    }

    @Test("What was promised stays so until it is stored")
    func promised() async throws {
        var first = told("f")
        first.write.isPromised = true
        let kept = first
        #expect(try log.put(7) { told("f") })
        #expect(!log.isPromised(7))
        #expect(try log.put(7) { kept })
        #expect(try log.put(7) { told("f") })
        #expect(log.isPromised(7))
        try await log.remove(7)
        #expect(!log.isPromised(7))
    }

    @Test("A cut that local disk cannot follow is none of the caller's business")
    func cutFails() throws {
        let mount = try TestMount { _ in }
        let recovery = mount.fs.upkeep.recovery
        let staged = try recovery.context.staging.makeFile(label: "test", memory: nil)
        StagedCut(context: recovery.context, inode: 7, record: { _ throws(VFSError) in false }).run(staged, asks: false)
        {
            _ throws(VFSError) in throw VFSError(.io, "no")
        }
        #expect(staged.hasExcess)
    }
}
