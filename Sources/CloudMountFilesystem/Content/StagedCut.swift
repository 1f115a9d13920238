import CloudMountStaging
import CloudMountVFS
import Logging

/// Takes bytes out of a staged file that its file has no more, once what is on record does without them; where that cannot be had, they stay,
/// and the staged file says so. The file is cut by then, whatever becomes of them.
struct StagedCut {
    typealias Body = (StagedFile) throws(VFSError) -> Void

    let context: MountContext
    let inode: InodeID
    /// Puts the file on record as it is. Blocks.
    let record: (InodeID) throws(VFSError) -> Bool

    /// - Parameter asks: bytes that a record may name are among them.
    func run(_ staged: StagedFile, asks: Bool, _ body: Body) {
        if asks || staged.hasExcess, context.writes.names(staged, of: inode) {
            let result = attemptNow { () throws(VFSError) in try record(inode) }
            guard case .success(true) = result else {
                return keep(staged, "\(result)")
            }
        }
        do throws(VFSError) {
            try body(staged)
        } catch {
            keep(staged, "\(error)")
        }
    }

    private func keep(_ staged: StagedFile, _ reason: String) {
        context.log.warning("local disk keeps what was cut", metadata: ["reason": "\(reason)"])
        staged.noteExcess()
    }
}
