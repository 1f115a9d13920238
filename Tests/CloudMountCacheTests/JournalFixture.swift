import CloudMountPlatform
import CloudMountVFS
import Glibc
import TestServers

@testable import CloudMountCache

func record(_ id: Int64, of mount: String = "photos", _ bytes: Int = 20) -> Journal.Record {
    Journal.Record(
        id: id, mount: mount, key: ObjectKey("folder/file-\(id)"), staged: id % 3 == 0 ? nil : "staged-\(id)",
        payload: (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(id)) })
}

func readBytes(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var status = stat()
    fstat(descriptor, &status)
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    guard pread(descriptor, &bytes, bytes.count, 0) == bytes.count else { return nil }
    return bytes
}

/// The journal's files in a directory, by name.
func files(in directory: String) -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for name in ["state.sqlite", "state.sqlite-wal", "state.mark"] {
        files[name] = readBytes("\(directory)/\(name)")
    }
    return files
}

/// A directory with these files.
func place(_ files: [String: [UInt8]], in directory: String) throws {
    mkdir(directory, 0o700)
    for (name, bytes) in files { try writeFile("\(directory)/\(name)", bytes) }
}

func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        names.append(
            withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    return names.filter { $0 != "." && $0 != ".." }.sorted()
}

/// What `body` throws, as this module's error; nil when it throws nothing.
func failure(_ body: () throws -> Void) -> VFSError? {
    do {
        try body()
        return nil
    } catch {
        return error as? VFSError ?? VFSError(.io, "an error of another kind: \(error)")
    }
}

/// Keeps a journal's writer waiting, so that what is asked for meanwhile comes together.
struct Hold {
    private let isOver = Semaphore()

    init(_ journal: Journal) throws {
        let (isOver, isHeld) = (isOver, Semaphore())
        let didStart = NamedThread.start("hold") {
            try? journal.database.connection.read { _ in
                isHeld.signal()
                isOver.wait()
            }
        }
        guard didStart else { throw TestSupportError("no thread") }
        isHeld.wait()
    }

    func end() { isOver.signal() }
}
