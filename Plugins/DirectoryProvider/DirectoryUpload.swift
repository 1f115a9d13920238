import CloudMountPlatform
import CloudMountVFS
import Glibc

/// An upload is a directory in the staging folder: a file `key` with the key and the record, and a file for each part,
/// named by its number and its tag. It outlives the process.
struct DirectoryUploads: Sendable {
    let folder: Folder
    let records: DirectoryRecords
    let writer: DirectoryWriter

    func begin(_ key: ObjectKey, _ metadata: ObjectMetadata) throws(VFSError) -> Upload {
        try writer.check(key, metadata)
        let upload = Upload(key: key, id: DirectoryRecord.newNonce())
        guard folder.writable else {
            throw VFSError(.readOnly, "the folder \(folder.path) was opened for reading only")
        }
        let directory = try system("staging in \(folder.path)") { () throws(SystemError) in
            let name = uploadName(upload)
            let staging = try folder.own(folder.staging)
            try SystemError.check { mkdirat(staging.raw, name, 0o700) }
            return try staging.open(name, for: .directory)
        }
        try freeing(upload) { () throws(VFSError) in
            let staged = try StagedFile(in: records, directory: directory)
            let record = DirectoryRecord(metadata: metadata).encoded
            let header = Array(DirectoryPaths.escape(key.string, all: false).utf8) + [UInt8(ascii: "\n")]
            try (header + record).withUnsafeBytes { bytes in
                Result { () throws(VFSError) in try staged.append(bytes) }
            }.get()
            try folder.sync(staged.file)
            try system("staging in \(folder.path)") { () throws(SystemError) in
                try SystemError.check { renameat(directory.raw, staged.name, directory.raw, "key") }
            }
            staged.placed()
        }
        return upload
    }

    /// The disk is full: the parts, which fill it and are of no use there, go.
    private func freeing<Value>(_ upload: Upload, _ body: () throws(VFSError) -> Value) throws(VFSError) -> Value {
        do throws(VFSError) {
            return try body()
        } catch {
            if error.code == .quotaExceeded { abort(upload) }
            throw error
        }
    }

    func addPart(
        _ upload: Upload, _ number: Int, _ fill: (StagedFile) throws(VFSError) -> Void
    ) throws(VFSError) -> UploadedPart {
        guard (1...10_000).contains(number) else {
            throw VFSError(.invalidArgument, "part \(number) is not between 1 and 10000")
        }
        _ = try metadata(of: upload)
        let staged = try freeing(upload) { () throws(VFSError) in
            let staged = try StagedFile(in: records)
            try fill(staged)
            return staged
        }
        let part = UploadedPart(number: number, size: staged.count, tag: DirectoryRecord.newNonce())
        let name = "\(number)-\(part.tag)"
        let older = try parts(of: upload).filter { $0.part.number == number }
        guard let directory = try? folder.root.open(uploadPath(upload), for: .directory),
            try staged.place(name, in: directory)
        else { throw DirectoryErrors.upload(upload.id) }
        for part in older { unlinkat(directory.raw, part.name, 0) }
        return part
    }

    func complete(
        _ upload: Upload, _ parts: [UploadedPart], _ precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        var metadata = try metadata(of: upload)
        if var last = upload.metadata {
            last.nonce = metadata.nonce
            try writer.check(upload.key, last)
            metadata = last
        }
        guard !parts.isEmpty else { throw VFSError(.invalidArgument, "an upload needs at least one part") }
        let staged = try freeing(upload) { () throws(VFSError) in try assemble(parts, of: upload) }
        let info = try writer.commit(staged, upload.key, metadata, precondition)
        abort(upload)
        return info
    }

    private func assemble(_ parts: [UploadedPart], of upload: Upload) throws(VFSError) -> StagedFile {
        let staged = try StagedFile(in: records)
        var previous = 0
        for part in parts {
            guard part.number > previous else {
                throw VFSError(.invalidArgument, "part \(part.number) is out of order")
            }
            previous = part.number
            let file = try? folder.root.open("\(uploadPath(upload))/\(part.number)-\(part.tag)", for: .reading)
            guard let file, let size = try? Int(file.status().st_size), size == part.size else {
                throw VFSError(.invalidArgument, "part \(part.number) is missing or another one")
            }
            if size > 0 { try staged.append(Extent(0, size), of: file) }
        }
        return staged
    }

    func abort(_ upload: Upload) { folder.root.removeTree(uploadPath(upload)) }

    func parts(of upload: Upload) throws(VFSError) -> [(part: UploadedPart, name: String)] {
        _ = try metadata(of: upload)
        var parts: [(part: UploadedPart, name: String)] = []
        guard let directory = try? folder.root.open(uploadPath(upload), for: .directory),
            let names = try? directory.entries()
        else { throw DirectoryErrors.upload(upload.id) }
        for (name, _) in names {
            let fields = name.split(separator: "-")
            guard fields.count == 2, let number = Int(fields[0]),
                let status = try? directory.status(of: name)
            else { continue }
            let part = UploadedPart(number: number, size: Int(status.st_size), tag: String(fields[1]))
            parts.append((part, name))
        }
        return parts.sorted { $0.part.number < $1.part.number }
    }

    private func metadata(of upload: Upload) throws(VFSError) -> ObjectMetadata {
        let bytes = try system("upload \(upload.id)") { () throws(SystemError) in
            try folder.contents(of: uploadPath(upload) + "/key")
        }
        guard let bytes, let end = bytes.firstIndex(of: UInt8(ascii: "\n")),
            let key = DirectoryPaths.unescape(bytes[..<end]), ObjectKey(key) == upload.key,
            let record = DirectoryRecord(Array(bytes[(end + 1)...]))
        else { throw DirectoryErrors.upload(upload.id) }
        return record.metadata
    }

    private func uploadPath(_ upload: Upload) -> String { "\(DirectoryPaths.staging)/\(uploadName(upload))" }

    /// The id comes back from outside: it must stay one name.
    private func uploadName(_ upload: Upload) -> String { "u" + DirectoryPaths.escape(upload.id, all: true) }
}
