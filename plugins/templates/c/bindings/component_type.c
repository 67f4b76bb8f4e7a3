/* plugin.c wants to be linked with an object that carries the interface's type; here the linker takes it from wit/plugin.wit. */
void __component_type_object_force_link_plugin(void);
void __component_type_object_force_link_plugin(void) {}
