import BuiltinProviders
import CloudMountCommands
import TapeProvider

/// `cloudmount` with one more kind of store: all that it takes outside this repository.
@main
enum Program {
    static func main() { CloudMountProgram.run(providers: builtinProviders + [TapeProvider.descriptor]) }
}
