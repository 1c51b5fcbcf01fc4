// Imports the modules of the installed package: pytest says where they are.

import { pathToFileURL } from "node:url";
import { join } from "node:path";

const folder = process.env.IBTICKS_STATIC ?? join(import.meta.dirname, "../../../ibticks/widgets/static");

export const source = (name) => import(pathToFileURL(join(folder, `${name}.mjs`)));
