import BuiltinProviders
import CloudMountCommands

@main
enum Program {
    static func main() { CloudMountProgram.run(providers: builtinProviders) }
}
